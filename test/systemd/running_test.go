package systemd_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// testConfined asks the kernel, not the units, what the processes may do.
func testConfined(t *testing.T, m *machine, _ *outside) {
	tests := []struct {
		unit, user, capabilities string
	}{
		{proxy, "smtpwall", "0000000000000000"},
		// DAC_READ_SEARCH (2), NET_ADMIN (12), SYS_PTRACE (19).
		{guard, "root", "0000000000081004"},
	}
	for _, test := range tests {
		pid := m.show(t, test.unit, "MainPID")
		if user := m.sh(t, "ps -o user= -p "+pid); user != test.user {
			t.Errorf("%s runs as %s, want %s", test.unit, user, test.user)
		}
		status := strings.Fields(m.run(t, "cat", "/proc/"+pid+"/status"))
		for key, want := range map[string]string{
			"CapEff:": test.capabilities, "CapPrm:": test.capabilities, "CapBnd:": test.capabilities,
			"CapAmb:": "0000000000000000", "NoNewPrivs:": "1", "Seccomp:": "2",
		} {
			for i, field := range status {
				if field == key && status[i+1] != want {
					t.Errorf("%s has %s %s, want %s", test.unit, key, status[i+1], want)
				}
			}
		}
	}
}

func testBlocked(t *testing.T, m *machine, _ *outside) {
	for _, user := range []string{"root", "nobody", "smtpwall"} {
		for _, address := range []string{remote4, remote6} {
			out, err := m.try("runuser", "-u", user, "--", "timeout", "5", "bash", "-c", "exec 3<>/dev/tcp/"+address+"/25")
			if err == nil || !strings.Contains(out, "Connection refused") {
				t.Errorf("%s to %s port 25: %v %s", user, address, err, out)
			}
		}
	}
	// With its three capabilities the guard finds out who goes on trying.
	m.run(t, "systemd-run", "--quiet", "--collect", "--unit=spam", "--uid=nobody",
		"bash", "-c", "while :; do : 3<>/dev/tcp/"+remote4+"/25; : 3<>/dev/tcp/"+remote6+"/25; done")
	for _, address := range []string{remote4, remote6} {
		eventually(t, "the attempts at "+address+" are on record", func() bool {
			return m.recorded(address, `"peer_user":"nobody"`, `"peer_unit":"spam.service"`, `"peer_exe":"/usr/bin/bash"`)
		})
	}
	m.run(t, "systemctl", "stop", "spam.service")
}

// recorded reports whether an attempt is on record whose line has all of words.
func (m *machine) recorded(words ...string) bool {
	events, err := m.try("cat", "/var/log/smtpwall/attempts.jsonl")
	if err != nil {
		return false
	}
	for line := range strings.Lines(events) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			return true
		}
	}
	return false
}

// testCredential sees that the password gets from a file of root's to the relay,
// and nowhere else.
func testCredential(t *testing.T, m *machine, o *outside) {
	if message := o.delivered(t, m); message.AuthUser != "relay-user" || !message.TLS {
		t.Errorf("delivered as %q, TLS %v", message.AuthUser, message.TLS)
	}
	if failures := o.relay.Counters().AuthFailures; failures != 0 {
		t.Errorf("%d failed logins", failures)
	}
	// Confined as it is, the proxy can tell who that was.
	event := m.run(t, "tail", "-n", "1", "/var/log/smtpwall/transactions.jsonl")
	for _, want := range []string{`"peer_user":"nobody"`, `"peer_unit":"run-`} {
		if !strings.Contains(event, want) {
			t.Errorf("the event has no %s: %s", want, event)
		}
	}
	pid := m.show(t, proxy, "MainPID")
	if out := m.sh(t, "cat /proc/"+pid+"/environ /proc/"+pid+"/cmdline | tr '\\0' ' '"); strings.Contains(out, password) {
		t.Error("the password is in the process list")
	}
	if out := m.journal(t, beginning) + m.sh(t, "cat /var/log/smtpwall/*"); strings.Contains(out, password) {
		t.Error("the password is in a log")
	}
	if out, err := m.try("runuser", "-u", "smtpwall", "--", "cat", "/etc/smtpwall/credentials/relay-main"); err == nil {
		t.Errorf("the proxy's user reads %q out of the folder", out)
	}

	// The other way: a drop-in with a name of its own.
	m.sh(t, `mv /etc/smtpwall/credentials/relay-main /root/relay-main
		mkdir -p /etc/systemd/system/smtpwall.service.d
		printf '[Service]\nLoadCredential=relay-main:/root/relay-main\n' >/etc/systemd/system/smtpwall.service.d/relay.conf
		systemctl daemon-reload && systemctl restart smtpwall.service`)
	o.delivered(t, m)
	m.sh(t, `mv /root/relay-main /etc/smtpwall/credentials/relay-main
		rm /etc/systemd/system/smtpwall.service.d/relay.conf
		systemctl daemon-reload && systemctl restart smtpwall.service`)
	o.delivered(t, m)
}

// testAuditFiles sees that a proxy that somebody took over could neither forge
// nor remove what the guard recorded, nor remove its own record.
func testAuditFiles(t *testing.T, m *machine, _ *outside) {
	as := func(shell string) error {
		_, err := m.try("runuser", "-u", "smtpwall", "--", "sh", "-c", "cd /var/log/smtpwall && "+shell)
		return err
	}
	for _, forbidden := range []string{
		"echo {} >>attempts.jsonl", "rm -f attempts.jsonl && test ! -e attempts.jsonl", "mv attempts.jsonl other",
		"rm -f transactions.jsonl && test ! -e transactions.jsonl", "ln -s /etc/passwd attempts.jsonl.1", "touch new",
	} {
		if as(forbidden) == nil {
			t.Errorf("the proxy's user may: %s", forbidden)
		}
	}
	if err := as("test -w transactions.jsonl"); err != nil {
		t.Errorf("the proxy's user cannot append to its own file: %v", err)
	}
}

func testRotation(t *testing.T, m *machine, o *outside) {
	m.run(t, "logrotate", "--force", "/etc/logrotate.d/smtpwall")
	for file, owner := range map[string]string{"transactions.jsonl": "640 smtpwall:smtpwall", "attempts.jsonl": "640 root:smtpwall"} {
		path := "/var/log/smtpwall/" + file
		if got := m.run(t, "stat", "--format=%a %U:%G", path); got != owner {
			t.Errorf("%s is %s after the rotation, want %s", path, got, owner)
		}
		if m.sh(t, "wc -l <"+path+".1") == "0" {
			t.Errorf("%s.1 is empty", path)
		}
	}
	eventually(t, "both write to the new files", func() bool {
		o.delivered(t, m)
		m.try("bash", "-c", "exec 3<>/dev/tcp/"+remote4+"/25")
		_, err := m.try("sh", "-c", "cd /var/log/smtpwall && test -s transactions.jsonl && test -s attempts.jsonl")
		return err == nil
	})
}

func testReload(t *testing.T, m *machine, o *outside) {
	before := m.pids(t)
	m.write(t, configFile, 0o640, []byte(enforce+`
[[policy.rule]]
name     = "not-nobody"
match    = { user = ["nobody"] }
decision = "deny"
`))
	m.run(t, "systemctl", "reload", proxy)
	eventually(t, "the proxy has the new policy", func() bool {
		out, err := submit(m)
		return err != nil && strings.Contains(out, "550 5.7.1") && strings.Contains(out, `"not-nobody"`)
	})

	// The guard got it as well.
	m.write(t, configFile, 0o640, []byte(strings.Replace(enforce, `"enforce"`, `"observe"`, 1)))
	m.run(t, "systemctl", "reload", proxy)
	eventually(t, "the guard unlocks in observe mode", func() bool { return !m.hasTable("smtpwall_lock") })
	m.write(t, configFile, 0o640, []byte(enforce))
	m.run(t, "systemctl", "reload", proxy)
	eventually(t, "the guard locks in enforce mode", func() bool { return m.hasTable("smtpwall_lock") })
	eventually(t, "the proxy has the old policy", func() bool { _, err := submit(m); return err == nil })
	if after := m.pids(t); after != before {
		t.Errorf("a reload changed the processes from %s to %s", before, after)
	}
}

// testBadReload gives a bad file both ways, by systemctl and by signal.
func testBadReload(t *testing.T, m *machine, o *outside) {
	before, mark := m.pids(t), m.mark(t)
	m.write(t, configFile, 0o640, []byte(strings.Replace(enforce, "[host]", "[hots]", 1)))
	defer func() {
		m.write(t, configFile, 0o640, []byte(enforce))
		m.run(t, "systemctl", "reload", proxy)
	}()
	if out, err := m.try("systemctl", "reload", proxy); err == nil {
		t.Errorf("the reload of a bad file succeeded: %s", out)
	}
	if said := m.journal(t, mark, proxy); !strings.Contains(said, "hots") || !strings.Contains(said, configFile) {
		t.Errorf("the journal does not say what is wrong:\n%s", said)
	}
	for _, unit := range []string{guard, proxy} {
		mark := m.mark(t)
		m.run(t, "systemctl", "kill", "--kill-whom=main", "--signal=HUP", unit)
		eventually(t, unit+" says what is wrong", func() bool { return strings.Contains(m.journal(t, mark, unit), "hots") })
		eventually(t, unit+" goes on", func() bool { return m.show(t, unit, "ActiveState") == "active" })
	}
	hammer(t, m, func() { o.delivered(t, m) })
	if after := m.pids(t); after != before {
		t.Errorf("a bad file changed the processes from %s to %s", before, after)
	}
}

// pids names the main processes of both services.
func (m *machine) pids(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("guard %s, proxy %s", m.show(t, guard, "MainPID"), m.show(t, proxy, "MainPID"))
}

func (m *machine) hasTable(name string) bool {
	_, err := m.try("nft", "list", "table", "inet", name)
	return err == nil
}
