// Package e2e_test runs the whole product: the real binary, in network
// namespaces of its own, with the clients that people use and a real Postfix.
//
// It needs root. No rule is ever loaded in the machine's own network namespace.
//
// Each bed is a network with one smtpwall and is independent of the others, so
// that tests run side by side. What a test starts it ends by its process id.
//
// What travels is checked byte for byte, and the Received field, the audit log
// and the program log beside it.
//
// Not here: rules and identification by themselves (test/netns), units and boot
// (test/systemd), speed (test/bench).
package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Set once by TestMain.
var (
	binary  string // smtpwall
	scratch string // a directory that any user may enter
)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "smtpwall-e2e-"); err == nil {
		err = os.Chmod(scratch, 0o755)
	}
	if err == nil {
		defer os.RemoveAll(scratch)
		binary, err = build(scratch)
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

// needRoot fails a test that somebody runs without the rights that it needs.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces and needs root")
	}
}
