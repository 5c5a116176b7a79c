package certs

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// silentFiles is a file system that does not answer until it is told to.
type silentFiles struct {
	answer    chan struct{}
	presented []string
}

func (f *silentFiles) wait() error { <-f.answer; return nil }

func (f *silentFiles) Present(c acme.Challenge) error {
	f.presented = append(f.presented, "+"+c.Token)
	return f.wait()
}

func (f *silentFiles) CleanUp(c acme.Challenge) error {
	f.presented = append(f.presented, "-"+c.Token)
	return nil
}

func (f *silentFiles) check() error { return f.wait() }
func (f *silentFiles) sweep() error { return f.wait() }

// TestSilentWebRoot: nobody waits long for it, once it is known at all, and what it does too late is undone.
func TestSilentWebRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := &silentFiles{answer: make(chan struct{})}
		r := newTimedRoot(files)
		begin := time.Now()
		if err := r.Present(acme.Challenge{Token: "one"}); !errors.Is(err, errWebRootSilent) || time.Since(begin) != webRootTime {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		for range 100 {
			if err := r.check(); !errors.Is(err, errWebRootSilent) {
				t.Error(err)
			}
		}
		if took := time.Since(begin); took != webRootTime {
			t.Errorf("took %s", took)
		}
		close(files.answer)
		synctest.Wait()
		for _, token := range []string{"two", "three"} {
			if err := r.Present(acme.Challenge{Token: token}); err != nil {
				t.Error(err)
			}
		}
		if got := strings.Join(files.presented, " "); got != "+one -one +two +three" {
			t.Error(got)
		}
	})
}

// TestSilentDoor: a condition, a reload and the end wait for no file system.
func TestSilentDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := &silentFiles{answer: make(chan struct{})}
		d := &acmeDoor{root: newTimedRoot(files), server: newChallengeServer(newChallenges())}
		begin := time.Now()
		d.lookFirst()
		if took := time.Since(begin); took != firstLook {
			t.Errorf("a start waits %s", took)
		}
		if err := d.problem(); err != nil {
			t.Errorf("before it is known: %v", err)
		}
		time.Sleep(webRootTime)
		if err := d.problem(); !errors.Is(err, errWebRootSilent) {
			t.Errorf("when it is known: %v", err)
		}
		d.close()
		if took := time.Since(begin); took != firstLook+webRootTime {
			t.Errorf("took %s", took)
		}
		close(files.answer)
	})
}

// TestWebRootPipes: a pipe in the place of a directory is opened by nobody.
func TestWebRootPipes(t *testing.T) {
	pipe := func(path ...string) {
		t.Helper()
		if err := syscall.Mkfifo(filepath.Join(path...), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	directory := t.TempDir()
	pipe(directory, "root")
	within := t.TempDir()
	pipe(within, ".well-known")
	swapped := t.TempDir()
	pipe(swapped, "made")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, root := range []string{filepath.Join(directory, "root"), filepath.Join(directory, "root") + "/", within} {
			if webRoot(root).check() == nil || webRoot(root).sweep() == nil {
				t.Errorf("%s: no error", root)
			}
		}
		root, err := os.OpenRoot(swapped)
		if err != nil {
			t.Error(err)
			return
		}
		defer root.Close()
		if f, err := openDirectory(root, "made"); err == nil {
			f.Close()
			t.Error("a pipe was opened as a directory")
		}
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("hangs")
	}
}

// TestWebRootSweep: what a killed process left is removed, and nothing else.
func TestWebRootSweep(t *testing.T) {
	root := t.TempDir()
	mkdir(t, root, challengePath)
	old := time.Now().Add(-time.Hour)
	files := map[string]bool{ // whether it stays
		temporaryPrefix + rand.Text(): false, temporaryPrefix[1:] + rand.Text(): false, "token": true, ".smtp": true, "smtpwall": true,
	}
	for name := range files {
		if err := os.WriteFile(tokenFile(root, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(tokenFile(root, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	fresh := temporaryPrefix + rand.Text()
	if err := os.WriteFile(tokenFile(root, fresh), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link(t, "token", tokenFile(root, temporaryPrefix+"link"))
	files[fresh], files[temporaryPrefix+"link"] = true, true
	mkdir(t, tokenFile(root, temporaryPrefix+"directory"))
	files[temporaryPrefix+"directory"] = true
	d := openDoor(ACMEOptions{Challenge: ChallengeHTTP, WebRoot: root}, acmeParts{challenges: newChallenges()})
	if err := d.problem(); err != nil {
		t.Fatal(err)
	}
	for name, stays := range files {
		if _, err := os.Lstat(tokenFile(root, name)); (err == nil) != stays {
			t.Errorf("%s: %v", name, err)
		}
	}
}
