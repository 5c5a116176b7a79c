// Package trust_test has the clients that people use verify what smtpwall shows
// them on a redirected connection, before `smtpwall trust install`, after it, and
// after `smtpwall trust remove`.
//
// It needs root. The whole test runs in a mount namespace of its own, with
// copy-on-write views of what the commands change: the machine's store stays as it
// is, and is compared. No rule is loaded in the machine's own network namespace.
//
// Clients run side by side; what a test starts it ends by its process id.
//
// No client is told to trust anything but what the documents say it must be told,
// and none is told not to verify.
//
// Not here: the stores by themselves (certs/trust), what is done with the mail
// (test/e2e).
package trust_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Roles of this program beside that of the test.
const (
	roleVariable = "SMTPWALL_TEST_ROLE"
	roleInside   = "inside" // the test, in a mount namespace of its own
	roleClient   = "client" // a program in Go that sends mail
)

// Set once by runTests.
var (
	binary  string // smtpwall
	scratch string // a directory that any user may enter
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case roleClient:
		os.Exit(goClient(os.Args[1:]))
	case roleInside:
		os.Exit(runTests(m))
	}
	os.Exit(outside())
}

// outside runs the test inside, and holds it to leaving the machine alone.
func outside() int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests make namespaces and need root")
		return 1
	}
	before, err := digest(changed()...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"="+roleInside)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	runtime.LockOSThread() // the signal is sent when the thread ends
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	after, digestErr := digest(changed()...)
	if digestErr == nil && after != before {
		digestErr = errors.New("the machine's own store has changed")
	}
	if err := errors.Join(err, digestErr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// changed are the directories that the commands under test write to.
func changed() []string { return []string{"/etc/ssl", "/usr/local/share/ca-certificates"} }

func runTests(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "smtpwall-trust-"); err == nil {
		err = os.Chmod(scratch, 0o755)
	}
	if err == nil {
		defer func() { _ = os.RemoveAll(scratch) }()
		binary, err = build(scratch)
	}
	if err == nil {
		err = cover("/etc", "/usr/local/share/ca-certificates", "/var/lib", "/opt")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func build(directory string) (string, error) {
	path := filepath.Join(directory, "smtpwall")
	cmd := exec.Command("go", "build", "-o", path, "github.com/smtpwall/smtpwall/cmd/smtpwall")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building smtpwall: %w\n%s", err, out)
	}
	return path, nil
}

// cover lays a copy-on-write view over directories, for this mount namespace.
func cover(directories ...string) error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keeping mounts private: %w", err)
	}
	for i, directory := range directories {
		if err := overlay(directory, directory, fmt.Sprint(i)); err != nil {
			return err
		}
	}
	return nil
}

// overlay mounts a copy-on-write view of lower on target.
func overlay(lower, target, name string) error {
	base := filepath.Join(scratch, "view-"+name)
	if err := os.Mkdir(base, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting %s: %w", base, err)
	}
	upper, work := filepath.Join(base, "upper"), filepath.Join(base, "work")
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
		return err
	}
	err := unix.Mount("overlay", target, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work)
	if err != nil {
		return fmt.Errorf("mounting a view of %s on %s: %w", lower, target, err)
	}
	return nil
}

// digest covers names, links and contents below the paths.
func digest(paths ...string) (string, error) {
	h := sha256.New()
	for _, path := range paths {
		err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
			var content []byte
			switch {
			case err != nil:
			case entry.Type() == fs.ModeSymlink:
				var target string
				target, err = os.Readlink(name)
				content = []byte(target)
			case entry.Type().IsRegular():
				content, err = os.ReadFile(name)
			}
			fmt.Fprintf(h, "%s %x\n", name, sha256.Sum256(content))
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
