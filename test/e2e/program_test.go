package e2e_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/lab"
)

// program prepares a client on the host, as an ordinary user.
func (b *bed) program(name string, args ...string) *exec.Cmd {
	return asSite(b.Host.Command(b.t.Context(), name, args...))
}

// asSite gives a command the user and the environment of a web site.
func asSite(cmd *exec.Cmd) *exec.Cmd {
	lab.AsUser(cmd, siteUID, siteUID)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/nonexistent", "LANG=C.UTF-8"}
	return cmd
}

// python is Debian's: a version manager's in root's home is closed to others.
const python = "/usr/bin/python3"

// mustSucceed runs a client to its end and returns all that it said.
func mustSucceed(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args[2:], " "), err, said)
	}
	return string(said)
}

// mustFail runs a client that must not succeed and returns all that it said.
func mustFail(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	said, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("%s succeeded:\n%s", strings.Join(cmd.Args[2:], " "), said)
	}
	return string(said)
}
