package systemd_test

import (
	"strings"
	"testing"
)

const (
	adminUnit   = "smtpwall-admin.socket"
	adminSocket = "/run/smtpwall/admin.sock"
)

// testAdminSocket sees who reaches the administration's socket, and that it
// comes and goes with the proxy.
func testAdminSocket(t *testing.T, m *machine, o *outside) {
	if owner := m.run(t, "stat", "--format=%a %U:%G", adminSocket); owner != "660 root:smtpwall" {
		t.Errorf("%s is %s", adminSocket, owner)
	}
	if out, err := m.try("runuser", "-u", "nobody", "--", "smtpwall", "queue", "list"); err == nil {
		t.Errorf("nobody lists the queue:\n%s", out)
	}
	for _, user := range [][]string{{}, {"runuser", "-u", "nobody", "-g", "smtpwall", "--"}} {
		m.run(t, append(user, "smtpwall", "queue", "list", "--json")...)
	}

	// With the proxy stopped, the list is read from the spool: it starts nothing.
	hammer(t, m, func() { m.run(t, "systemctl", "stop", proxy) })
	if out, err := m.try("test", "-e", adminSocket); err == nil {
		t.Errorf("%s is there with the proxy stopped %s", adminSocket, out)
	}
	m.run(t, "smtpwall", "queue", "list", "--json")
	if state := m.show(t, proxy, "ActiveState"); state != "inactive" {
		t.Errorf("a list of the queue left the proxy %s", state)
	}
	if out, err := m.try("smtpwall", "queue", "retry", "--all"); err == nil || !strings.Contains(out, "hint: ") {
		t.Errorf("retrying with the proxy stopped: %v\n%s", err, out)
	}

	o.delivered(t, m) // the sockets for mail start it again
	eventually(t, "the administration is back", func() bool {
		_, err := m.try("runuser", "-u", "nobody", "-g", "smtpwall", "--", "smtpwall", "queue", "list", "--json")
		return err == nil
	})
	m.run(t, "systemctl", "restart", proxy)
	if state := m.show(t, adminUnit, "ActiveState"); state != "active" {
		t.Errorf("%s is %s after a restart of the proxy", adminUnit, state)
	}
	m.run(t, "smtpwall", "queue", "list", "--json")

	// Without it mail goes on.
	m.run(t, "systemctl", "mask", "--now", adminUnit)
	defer m.run(t, "systemctl", "restart", proxy)
	defer m.run(t, "systemctl", "unmask", adminUnit)
	m.run(t, "systemctl", "restart", proxy)
	o.delivered(t, m)
}
