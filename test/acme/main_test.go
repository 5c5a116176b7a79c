// Package acme_test gets real certificates for the whole product: the real
// binary in network namespaces of its own, with a real ACME server (Pebble), a
// real name server (bind9), a real web server (nginx) and a real certbot.
//
// It needs root. No rule is ever loaded in the machine's own network namespace.
//
// Each bed is a network with one smtpwall and its own CA, independent of the
// others, so that tests run side by side. What a test starts it ends by its
// process id. After each, what smtpwall keeps is held to be readable by its user
// alone, and its log to hold no error that the test did not provoke.
//
// RFC 8555 with RFC 8737 and RFC 9773, as the CA sees them; RFC 2136 and
// RFC 8945 as the name server does.
//
// Not here: the rooms of certificates by themselves (certs), mail and
// redirection (test/e2e), speed (test/bench).
package acme_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// tests is how many run side by side.
const tests = 5

// Set once by TestMain.
var (
	binary  string // smtpwall
	scratch string // a directory that any user may enter
)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "smtpwall-acme-"); err == nil {
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
	// The tests wait most of the time, for a CA or a clock: a processor serves
	// several of them.
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(max(tests, runtime.GOMAXPROCS(0)))); err != nil {
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
