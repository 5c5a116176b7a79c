package systemd_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// observeAndAllow observes, and lets one unit reach the relay itself.
const observeAndAllow = `
[[firewall.allow]]
unit        = "direct-test.service"
destination = "relay.test:587"
`

// testTrial tries enforce mode out, through a crash of the guard and a reboot,
// with a unit that goes its own way.
func testTrial(t *testing.T, m *machine, o *outside) {
	defer func() {
		m.write(t, configFile, 0o640, []byte(enforce))
		m.run(t, "systemctl", "reload", guard)
	}()
	m.write(t, configFile, 0o640, []byte(strings.Replace(enforce, `"enforce"`, `"observe"`, 1)+observeAndAllow))
	m.run(t, "systemctl", "reload", guard)
	m.inMode(t, "observe")
	m.run(t, "smtpwall", "enforce", "--confirm-within", "1h")
	m.onTrial(t)
	pid := m.show(t, guard, "MainPID")
	m.run(t, "systemctl", "kill", "--signal=KILL", "--kill-who=main", guard)
	eventually(t, "the guard is back", func() bool {
		return m.show(t, guard, "ActiveState") == "active" && m.show(t, guard, "MainPID") != pid
	})
	m.onTrial(t)
	o.reboot(t, m)
	m.blockedFirst(t)
	m.onTrial(t)

	if got := m.banner(t, "direct-test.service"); got != "220 relay.test" {
		t.Errorf("the allowed unit reached %q", got)
	}
	if got := m.banner(t, "other-test.service"); got != "220 machine.example.net" {
		t.Errorf("another unit reached %q", got)
	}
	m.run(t, "smtpwall", "observe")
	m.inMode(t, "observe")
	if left := m.sh(t, "ls /var/lib/smtpwall-guard"); left != "" {
		t.Errorf("of the trial is left: %s", left)
	}
	if owner := m.run(t, "stat", "--format=%a %U:%G", "/var/lib/smtpwall-guard"); owner != "700 root:root" {
		t.Errorf("the guard's state is %s", owner)
	}
}

// inMode fails unless the guard says that it is in this mode, and the kernel has
// the lock in enforce mode only.
func (m *machine) inMode(t *testing.T, want string) {
	t.Helper()
	eventually(t, "the guard is in "+want+" mode", func() bool {
		out, err := m.try("smtpwall", "firewall", "status")
		return err == nil && strings.Contains(out, "mode "+want)
	})
	if locked := strings.Contains(m.run(t, "nft", "list", "tables"), "smtpwall_lock"); locked != (want == "enforce") {
		t.Errorf("in %s mode the lock is there: %v", want, locked)
	}
}

func (m *machine) onTrial(t *testing.T) {
	t.Helper()
	m.inMode(t, "enforce")
	if state := m.run(t, "cat", "/var/lib/smtpwall-guard/mode.json"); !strings.Contains(state, `"trial"`) {
		t.Errorf("the state is %s", state)
	}
}

// banner is the beginning of what a process of a unit hears from the relay's
// address.
func (m *machine) banner(t *testing.T, unit string) string {
	t.Helper()
	// The guard sees the unit in the moment that it starts, but not before.
	script := fmt.Sprintf("sleep %g; exec 3<>/dev/tcp/relay.test/587; read -t 5 code host rest <&3; echo $code $host", time.Second.Seconds())
	return m.run(t, "systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--unit="+unit, "bash", "-c", script)
}
