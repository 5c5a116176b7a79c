package systemd_test

import (
	"strings"
	"testing"
)

// networkUnit does what the first program that configures a network could do:
// it looks at the rules and connects.
const networkUnit = `[Unit]
DefaultDependencies=no
After=network-pre.target
Before=network.target sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'nft list tables >/first-network; for a in 198.51.100.254 2001:db8::fe; do bash -c "exec 3<>/dev/tcp/$a/25" >>/first-network 2>&1 && echo connected >>/first-network; done; true'
[Install]
WantedBy=sysinit.target
`

func testReboot(t *testing.T, m *machine, o *outside) {
	m.write(t, "/etc/systemd/system/first-network.service", 0o644, []byte(networkUnit))
	m.run(t, "systemctl", "enable", "first-network.service")
	o.reboot(t, m)
	m.blockedFirst(t)
	for _, unit := range []string{guard, "smtpwall.socket", adminUnit, proxy} {
		if state := m.show(t, unit, "ActiveState"); state != "active" {
			t.Errorf("%s is %s after a reboot:\n%s", unit, state, m.journal(t, beginning, unit))
		}
	}
	if cycle := m.sh(t, "journalctl -b --no-pager | grep -i 'ordering cycle' || true"); cycle != "" {
		t.Errorf("the boot had an ordering cycle:\n%s", cycle)
	}
	hammer(t, m, func() { o.delivered(t, m) })
}

// testBrokenBoot boots with a file that cannot be used: no mail, and no way
// around it either. Mending the file is enough.
func testBrokenBoot(t *testing.T, m *machine, o *outside) {
	m.write(t, configFile, 0o640, []byte(strings.Replace(enforce, "[host]", "[hots]", 1)))
	o.reboot(t, m)
	m.blockedFirst(t)
	if state := m.show(t, guard, "ActiveState"); state != "active" {
		t.Errorf("the guard is %s", state)
	}
	hammer(t, m, func() {
		m.write(t, configFile, 0o640, []byte(enforce))
		eventually(t, "the proxy starts", func() bool { return m.show(t, proxy, "ActiveState") == "active" })
		m.run(t, "systemctl", "reload", proxy)
		o.delivered(t, m)
	})
}

// reboot shuts the machine down and boots it in a new network.
func (o *outside) reboot(t *testing.T, m *machine) {
	t.Helper()
	m.run(t, "rm", "-f", "/first-network") // of the boot before
	m.powerOff()
	m.connect()
	o.plugIn(t, m)
	m.powerOn()
}

// blockedFirst checks what networkUnit found in this boot.
func (m *machine) blockedFirst(t *testing.T) {
	t.Helper()
	first := m.run(t, "cat", "/first-network")
	if !strings.Contains(first, "table inet smtpwall\n") || !strings.Contains(first, "table inet smtpwall_lock\n") {
		t.Errorf("the first program of the network saw:\n%s", first)
	}
	if strings.Contains(first, "connected") || strings.Count(first, "connect: Connection refused") != 2 {
		t.Errorf("the first program of the network got:\n%s", first)
	}
}
