package e2e_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/lab"
)

// program prepares a client on the host, as a web site.
func (b *bed) program(name string, args ...string) *exec.Cmd {
	return b.programAs(siteUID, name, args...)
}

// programAs prepares a client of any user, with nothing of root's environment.
func (b *bed) programAs(uid uint32, name string, args ...string) *exec.Cmd {
	cmd := lab.AsUser(b.Host.Command(b.t.Context(), name, args...), uid, uid)
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
