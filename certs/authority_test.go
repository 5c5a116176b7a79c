package certs

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// makeCAIn marks the child process that makes a CA, in the directory that it names, and prints its root's key id.
const makeCAIn = "SMTPWALL_TEST_MAKE_CA_IN"

func TestMain(m *testing.M) {
	if directory := os.Getenv(makeCAIn); directory != "" {
		fmt.Println("ready")
		bufio.NewReader(os.Stdin).ReadString('\n')
		a, err := openAuthority(authorityOptions{directory: directory, lifetime: DefaultLeafLifetime, now: time.Now})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(shortID(a.root.SubjectKeyId))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// maker is a child process that is about to make a CA.
type maker struct {
	command *exec.Cmd
	start   func()
	output  *bufio.Reader
}

func startMaker(t *testing.T, directory string, credential *syscall.Credential) maker {
	t.Helper()
	command := exec.Command("/proc/self/exe")
	command.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	command.Env = append(os.Environ(), makeCAIn+"="+directory)
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	m := maker{command, func() { fmt.Fprintln(input) }, bufio.NewReader(output)}
	if line, err := m.output.ReadString('\n'); line != "ready\n" {
		t.Fatalf("child said %q: %v", line, err)
	}
	return m
}

func TestCAFiles(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "state", "certs")
	open(t, Options{Directory: directory})
	for path, want := range map[string]fs.FileMode{
		directory: 0o700, filepath.Join(directory, "local-ca"): 0o755,
		filepath.Join(directory, "local-ca", "root.key"): 0o600, RootFile(directory): 0o644,
	} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v: %v", path, info.Mode().Perm(), want, err)
		}
	}
	var keys int
	filepath.WalkDir(directory, func(path string, _ fs.DirEntry, err error) error {
		if content, _ := os.ReadFile(path); strings.Contains(string(content), "PRIVATE KEY") {
			keys++
		}
		return err
	})
	if keys != 1 {
		t.Errorf("%d private keys on the disk, want the root's alone", keys)
	}
	left, _ := filepath.Glob(filepath.Join(directory, unfinishedPrefix+"*"))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestRacingProcesses lets processes make the CA of one directory at the same moment: all end up with the same one.
func TestRacingProcesses(t *testing.T) {
	directory := t.TempDir()
	var makers []maker
	for range 8 {
		makers = append(makers, startMaker(t, directory, nil))
	}
	for _, m := range makers {
		m.start()
	}
	var ids []string
	for _, m := range makers {
		id, _ := m.output.ReadString('\n')
		ids = append(ids, id)
		if err := m.command.Wait(); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	if slices.Sort(ids); ids[0] != ids[len(ids)-1] {
		t.Errorf("several CAs: %q", ids)
	}
	entries, err := os.ReadDir(directory)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v in the directory, want local-ca alone: %v", entries, err)
	}
}

// TestKilledWhileMaking kills processes at spread moments. Each leaves no CA or a whole one, and the next start works.
func TestKilledWhileMaking(t *testing.T) {
	directory := t.TempDir()
	var whole int
	for i := range 40 {
		os.RemoveAll(filepath.Join(directory, authorityDirectory))
		m := startMaker(t, directory, nil)
		timer := time.AfterFunc(time.Duration(i)*100*time.Microsecond, func() { m.command.Process.Kill() })
		m.start()
		m.command.Wait()
		timer.Stop()
		if _, err := os.Stat(filepath.Join(directory, authorityDirectory)); err == nil {
			whole++
		}
		after, err := Open(context.Background(), Options{Directory: directory})
		if err != nil {
			t.Fatalf("after a kill at %d00 µs: %v", i, err)
		}
		after.Close()
	}
	t.Logf("%d of 40 had made the CA when they were killed", whole)
	if entries, _ := os.ReadDir(directory); len(entries) != 1 {
		t.Errorf("%v in the directory, want what was left behind to be swept", entries)
	}
}

// TestUnfinishedCA is a kill at the one moment that counts: everything written, not yet renamed.
func TestUnfinishedCA(t *testing.T) {
	directory := t.TempDir()
	unfinished := filepath.Join(directory, unfinishedPrefix+"1")
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(unfinished, keyFile), []byte("half a k"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(directory, authorityDirectory), 0o755); err != nil { // empty, as tmpfiles.d would make it
		t.Fatal(err)
	}
	open(t, Options{Directory: directory})
	if _, err := os.Stat(unfinished); err == nil {
		t.Error("what the killed process left is still there")
	}
}

// TestDamagedCA holds that files that cannot be used stop the start, each time, and are left as they are.
func TestDamagedCA(t *testing.T) {
	otherKey, otherRoot, err := newRoot(authorityOptions{now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		damage func(key, root string) error
		want   string
	}{
		{"empty key", func(key, _ string) error { return os.Truncate(key, 0) }, "root.key: no PEM block"},
		{"half a key", func(key, _ string) error { return os.Truncate(key, 100) }, "root.key: no PEM block"},
		{"half a root", func(_, root string) error { return os.Truncate(root, 300) }, "root.pem: no PEM certificate"},
		{"no key", func(key, _ string) error { return os.Remove(key) }, "root.key: no such file"},
		{"no root", func(_, root string) error { return os.Remove(root) }, "root.pem: no such file"},
		{"another key", func(key, _ string) error { return os.WriteFile(key, otherKey, 0o600) }, "not the key of root.pem"},
		{"another root", func(_, root string) error { return os.WriteFile(root, otherRoot, 0o644) }, "not the key of root.pem"},
		{"swapped", func(key, root string) error { return os.WriteFile(root, otherKey, 0o644) }, "root.pem: no PEM certificate"},
		{"readable key", func(key, _ string) error { return os.Chmod(key, 0o640) }, "others may have read it; chmod 0600"},
		{"garbage", func(key, _ string) error {
			return os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("garbage")}), 0o600)
		}, "root.key: asn1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			directory := t.TempDir()
			open(t, Options{Directory: directory})
			key := filepath.Join(directory, authorityDirectory, keyFile)
			if err := test.damage(key, RootFile(directory)); err != nil {
				t.Fatal(err)
			}
			before := digestTree(t, directory)
			for range 2 {
				_, err := Open(context.Background(), Options{Directory: directory})
				for _, part := range []string{test.want, "restore root.key and root.pem from a backup", "a new CA is then made"} {
					if err == nil || !strings.Contains(err.Error(), part) {
						t.Errorf("error %v, want %q in it", err, part)
					}
				}
			}
			if digestTree(t, directory) != before {
				t.Error("the files were touched")
			}
		})
	}
}

// TestCAOfAnotherUser is the service started after somebody tried it as root: the error says who cannot read what.
func TestCAOfAnotherUser(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "certs")
	open(t, Options{Directory: directory})
	if err := os.Chmod(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	m := startMaker(t, directory, &syscall.Credential{Uid: 65534, Gid: 65534}) // needs root
	m.start()
	said, _ := m.output.ReadString('\n')
	if err := m.command.Wait(); err == nil || !strings.Contains(said, "reading the local CA as uid 65534: open "+directory) {
		t.Errorf("another user's process said %q: %v", said, err)
	}
}

func TestExpiredRoot(t *testing.T) {
	directory := t.TempDir()
	long := time.Now().Add(-rootLifetime - time.Hour)
	if err := createAuthority(authorityOptions{directory: directory, now: func() time.Time { return long }}); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), Options{Directory: directory})
	if err == nil || !strings.Contains(err.Error(), "root.pem expired on "+time.Now().Format("2006-01")) {
		t.Errorf("opened with an expired root: %v", err)
	}
}

// TestLeafEndsWithRoot: RFC 5280 does not demand it, but a leaf that outlives its root helps nobody.
func TestLeafEndsWithRoot(t *testing.T) {
	directory := t.TempDir()
	long := time.Now().Add(-rootLifetime + 24*time.Hour)
	if err := createAuthority(authorityOptions{directory: directory, now: func() time.Time { return long }}); err != nil {
		t.Fatal(err)
	}
	m := open(t, Options{Directory: directory})
	host, root := m.Status()[0], m.Status()[1]
	if !host.NotAfter.Equal(root.NotAfter) {
		t.Errorf("host's certificate ends %s, the root %s", host.NotAfter, root.NotAfter)
	}
}

// TestTwoManagers share one directory: both serve, both from the same root.
func TestTwoManagers(t *testing.T) {
	directory := t.TempDir()
	managers, errs := make([]*Manager, 2), make([]error, 2)
	var opening sync.WaitGroup
	for i := range managers {
		opening.Go(func() {
			o := Options{Directory: directory, Names: []string{fmt.Sprintf("host%d.example", i)}}
			managers[i], errs[i] = Open(context.Background(), o)
		})
	}
	opening.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(managers[1].Close)
	for i, m := range managers {
		verify(t, shown(t, m, "localhost", direct), directory, fmt.Sprintf("host%d.example", i), time.Now())
		verify(t, shown(t, m, "smtp.example.com", foreign4), directory, "smtp.example.com", time.Now())
	}
	managers[0].Close()
	verify(t, shown(t, managers[1], "smtp.example.org", foreign4), directory, "smtp.example.org", time.Now())
}

// TestOpenSSL asks another implementation, strictly, about the chain and in a handshake.
func TestOpenSSL(t *testing.T) {
	directory := t.TempDir()
	m := open(t, Options{Directory: directory, Names: []string{"vps1.example.net"}})
	root := RootFile(directory)
	tests := []struct {
		leaf     []byte
		identity []string
	}{
		{shown(t, m, "localhost", direct).Raw, []string{"-verify_hostname", "vps1.example.net"}},
		{shown(t, m, "localhost", direct).Raw, []string{"-verify_ip", "::1"}},
		{shown(t, m, "smtp.example.com", foreign4).Raw, []string{"-verify_hostname", "smtp.example.com"}},
		{shown(t, m, "", foreign6).Raw, []string{"-verify_ip", foreign6.Addr().String()}},
	}
	for i, test := range tests {
		if err := verifyOpenSSL(t, test.leaf, directory, test.identity...); err != nil {
			t.Errorf("certificate %d: %v", i, err)
		}
	}
	_, port, err := net.SplitHostPort(serveHTTPS(t, m))
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		command := exec.Command("openssl", "s_client", version, "-CAfile", root, "-verify_return_error", "-x509_strict",
			"-verify_ip", "127.0.0.1", "-connect", "127.0.0.1:"+port)
		if output, err := command.CombinedOutput(); err != nil {
			t.Errorf("openssl s_client %s: %v: %s", version, err, output)
		}
	}
}
