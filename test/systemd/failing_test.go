package systemd_test

import (
	"strings"
	"testing"
)

// testProxyCrash submits a message at the moment at which there is no proxy.
func testProxyCrash(t *testing.T, m *machine, o *outside) {
	sockets := m.sh(t, "ss -Hltne | grep -E ':(587|465|2525) ' | sort")
	pid := m.show(t, proxy, "MainPID")
	hammer(t, m, func() {
		o.relay.TakeMessages()
		m.sh(t, "kill -KILL "+pid+" && "+quote(submission))
		if n := len(o.relay.TakeMessages()); n != 1 {
			t.Errorf("the relay got %d messages, want 1", n)
		}
	})
	if now := m.show(t, proxy, "MainPID"); now == pid || now == "0" {
		t.Errorf("the proxy was not restarted: process %s, now %s", pid, now)
	}
	if now := m.sh(t, "ss -Hltne | grep -E ':(587|465|2525) ' | sort"); now != sockets {
		t.Errorf("the sockets changed from\n%s\nto\n%s", sockets, now)
	}
	if state := m.show(t, adminUnit, "ActiveState"); state != "active" {
		t.Errorf("%s is %s", adminUnit, state)
	}
	m.bothTables(t)
}

// testGuardCrash kills the guard and takes the rules away before it is back: the
// lock table, which the manager's copy of the socket holds, must stand in.
func testGuardCrash(t *testing.T, m *machine, o *outside) {
	pid, handle := m.show(t, guard, "MainPID"), m.lockHandle(t)
	hammer(t, m, func() {
		m.run(t, "kill", "-KILL", pid)
		if out, err := m.try("nft", "delete", "table", "inet", "smtpwall_lock"); err == nil {
			t.Errorf("root could delete the lock table while the guard was dead: %s", out)
		}
		m.run(t, "nft", "flush", "ruleset")
		eventually(t, "the guard is back", func() bool {
			now := m.show(t, guard, "MainPID")
			return now != pid && now != "0" && m.show(t, guard, "ActiveState") == "active"
		})
		eventually(t, "the rules are back", func() bool { return m.hasTable("smtpwall") })
	})
	if now := m.lockHandle(t); now != handle {
		t.Errorf("the lock table is another one: %q, was %q", now, handle)
	}
	if n := m.show(t, guard, "NFileDescriptorStore"); n != "1" {
		t.Errorf("%s descriptors are stored, want 1", n)
	}
	if said := m.journal(t, beginning, guard); strings.Contains(said, "Cannot store") {
		t.Errorf("the manager complains:\n%s", said)
	}
	o.delivered(t, m) // also: the proxy found the new guard, the relay's addresses are back

	// An administrator's restart keeps the lock, too.
	hammer(t, m, func() { m.run(t, "systemctl", "restart", guard) })
	if now := m.lockHandle(t); now != handle {
		t.Errorf("the lock table is another one after a restart: %q, was %q", now, handle)
	}
	o.delivered(t, m)
}

// testWatchdog stops each process, as a deadlock would.
func testWatchdog(t *testing.T, m *machine, o *outside) {
	for _, unit := range []string{guard, proxy} {
		m.write(t, "/etc/systemd/system/"+unit+".d/watchdog.conf", 0o644, []byte("[Service]\nWatchdogSec=3s\n"))
	}
	m.run(t, "systemctl", "daemon-reload")
	m.run(t, "systemctl", "restart", guard, proxy)
	mark := m.mark(t)
	hammer(t, m, func() {
		guardPID, proxyPID := m.show(t, guard, "MainPID"), m.show(t, proxy, "MainPID")
		m.run(t, "kill", "-STOP", guardPID, proxyPID)
		eventually(t, "both are new and ready", func() bool {
			return m.show(t, guard, "MainPID") != guardPID && m.show(t, proxy, "MainPID") != proxyPID &&
				m.show(t, guard, "ActiveState") == "active" && m.show(t, proxy, "ActiveState") == "active"
		})
	})
	for _, unit := range []string{guard, proxy} {
		if said := m.journal(t, mark, unit); !strings.Contains(said, "Watchdog timeout") {
			t.Errorf("%s was restarted for another reason:\n%s", unit, said)
		}
	}
	o.delivered(t, m)
	m.sh(t, "rm -r /etc/systemd/system/smtpwall*.service.d && systemctl daemon-reload && systemctl restart "+guard+" "+proxy)
}

// testStop stops everything: mail stops, the block does not.
func testStop(t *testing.T, m *machine, _ *outside) {
	m.run(t, "systemctl", "stop", "smtpwall.socket", proxy, guard)
	for _, unit := range []string{guard, proxy} {
		if result := m.show(t, unit, "Result"); result != "success" {
			t.Errorf("%s ended with %s:\n%s", unit, result, m.journal(t, beginning, unit))
		}
	}
	if !m.hasTable("smtpwall") {
		t.Error("the rules went away with the service")
	}
	hammer(t, m, func() {
		if out, err := submit(m); err == nil || !strings.Contains(out, "Connection refused") {
			t.Errorf("submitting without a service: %v\n%s", err, out)
		}
	})
}

// testUninstall sees that the program does not go before the rules do, and before
// the local CA is not trusted any more.
func testUninstall(t *testing.T, m *machine, _ *outside) {
	uninstall := []string{"make", "--no-print-directory", "-C", "/usr/src/smtpwall", "uninstall"}
	m.run(t, "smtpwall", "trust", "install")
	m.run(t, "systemctl", "enable", tlsPort)
	for _, remove := range [][]string{{"smtpwall", "trust", "remove"}, {"smtpwall", "firewall", "remove"}} {
		hint := "hint: " + strings.Join(remove, " ") + ","
		if out, err := m.try(uninstall...); err == nil || !strings.Contains(out, hint) {
			t.Errorf("make uninstall: %v, want %q in\n%s", err, hint, out)
		}
		hammer(t, m, func() {})
		m.run(t, remove...)
	}
	m.run(t, uninstall...)
	if left := m.sh(t, "nft list ruleset; find /usr/local /etc/ssl/certs /etc/systemd -name '*smtpwall*'; ls /etc/logrotate.d | grep smtpwall || true"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	m.run(t, "test", "-e", configFile)
}

// quote makes shell text of a command whose words have no quotes.
func quote(words []string) string { return "'" + strings.Join(words, "' '") + "'" }

// bothTables checks that rules and lock are loaded.
func (m *machine) bothTables(t *testing.T) {
	t.Helper()
	for _, table := range []string{"smtpwall", "smtpwall_lock"} {
		if !m.hasTable(table) {
			t.Errorf("table inet %s is not loaded", table)
		}
	}
}

// lockHandle names the lock table as the kernel does: another one of the same
// name has another handle.
func (m *machine) lockHandle(t *testing.T) string {
	t.Helper()
	first, _, _ := strings.Cut(m.run(t, "nft", "--handle", "list", "table", "inet", "smtpwall_lock"), "\n")
	_, handle, ok := strings.Cut(first, "# handle ")
	if !ok {
		t.Fatalf("no handle in %q", first)
	}
	return handle
}
