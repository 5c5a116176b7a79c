package systemd_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

const (
	proxy = "smtpwall.service"
	guard = "smtpwall-guard.service"

	configFile = "/etc/smtpwall/smtpwall.toml"
	password   = "correct horse"
)

// enforce is the configuration of most of the test. All mail is of one user, and
// of more than the default limits let through.
const enforce = `mode = "enforce"
[host]
name = "machine.example.net"
[policy]
limits = []
[relay.main]
address  = "relay.test:587"
username = "relay-user"
password = { credential = "relay-main" }
ca       = "/etc/smtpwall/relay-ca.pem"
`

// outside is what the other host offers: a relay, and a port 25 that nobody of
// the machine may ever reach.
type outside struct {
	relay *testkit.Relay
	trap  *trap
}

// TestService is an administrator's day with smtpwall.
func TestService(t *testing.T) {
	m := newMachine(t)
	install(t, m)
	t.Run("Installed", func(t *testing.T) { testInstalled(t, m) })
	t.Run("Verify", func(t *testing.T) { testVerify(t, m) })
	t.Run("Exposure", func(t *testing.T) { testExposure(t, m) })

	o := newOutside(t, m)
	t.Run("Start", func(t *testing.T) { testStart(t, m) })
	if t.Failed() {
		return // nothing below can say more
	}
	for _, part := range []struct {
		name string
		test func(*testing.T, *machine, *outside)
	}{
		{"Confined", testConfined},
		{"Blocked", testBlocked},
		{"Credential", testCredential},
		{"AuditFiles", testAuditFiles},
		{"Rotation", testRotation},
		{"AdminSocket", testAdminSocket},
		{"Reload", testReload},
		{"BadReload", testBadReload},
		{"Restart", testRestart},
		{"ProxyCrash", testProxyCrash},
		{"GuardCrash", testGuardCrash},
		{"Watchdog", testWatchdog},
		{"Certificates", testCertificates},
		{"Stop", testStop},
		{"Reboot", testReboot},
		{"Trial", testTrial},
		{"BrokenBoot", testBrokenBoot},
		{"Uninstall", testUninstall},
	} {
		t.Run(part.name, func(t *testing.T) {
			mark := m.mark(t)
			defer func() {
				o.trap.check(t)
				m.explain(t, mark)
			}()
			part.test(t, m, o)
		})
	}
}

// newOutside starts the other host and tells the machine about it.
func newOutside(t *testing.T, m *machine) *outside {
	t.Helper()
	relay, err := testkit.NewRelay(testkit.RelayOptions{
		Name: "relay.test", Username: "relay-user", Password: password, RequireTLS: true, RequireAuth: true, DigestFrom: marker,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { relay.Close() })
	o := &outside{relay: relay, trap: &trap{}}
	o.plugIn(t, m)
	m.write(t, "/etc/hosts", 0o644, fmt.Appendf(nil, "127.0.0.1 localhost machine.example.net machine\n::1 localhost\n%s relay.test\n%s relay.test\n", remote4, remote6))
	m.write(t, "/etc/smtpwall/relay-ca.pem", 0o644, relay.CA())
	m.write(t, "/etc/smtpwall/credentials/relay-main", 0o600, []byte(password+"\n"))
	m.write(t, "/srv/message", 0o644, []byte("From: <site@example.net>\r\nTo: <you@example.com>\r\nSubject: test\r\n\r\nHello\r\n"))
	m.write(t, configFile, 0o640, []byte(enforce))
	m.run(t, "chgrp", "smtpwall", configFile)
	return o
}

// plugIn puts the listeners of the other host into the machine's present network.
func (o *outside) plugIn(t *testing.T, m *machine) {
	t.Helper()
	for _, a := range []string{remote4, remote6} {
		addr := netip.MustParseAddr(a)
		l, err := m.net.Remote.Listen(netip.AddrPortFrom(addr, 587))
		if err != nil {
			t.Fatal(err)
		}
		o.relay.Serve(l, false)
		if l, err = m.net.Remote.Listen(netip.AddrPortFrom(addr, 25)); err != nil {
			t.Fatal(err)
		}
		o.trap.serve(t, l)
	}
}

// delivered submits a message as nobody, in a unit of its own, and checks that
// the relay got it.
func (o *outside) delivered(t *testing.T, m *machine) testkit.RelayMessage {
	t.Helper()
	o.relay.TakeMessages()
	if out, err := submit(m); err != nil {
		t.Fatalf("submitting a message: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	messages, err := o.relay.WaitMessages(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	return messages[0]
}

// submission is a program that sends one message by the alternate port.
var submission = []string{"curl", "--silent", "--show-error", "--verbose", "--max-time", "30", "smtp://127.0.0.1:2525",
	"--mail-from", "site@example.net", "--mail-rcpt", "you@example.com", "--upload-file", "/srv/message"}

func submit(m *machine) (string, error) {
	return m.try(append([]string{"systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--uid=nobody"}, submission...)...)
}

func testStart(t *testing.T, m *machine) {
	m.run(t, "systemctl", "enable", "--now", proxy)
	for _, unit := range []string{guard, "smtpwall.socket", proxy} {
		if state := m.show(t, unit, "ActiveState"); state != "active" {
			t.Errorf("%s is %s:\n%s", unit, state, m.journal(t, beginning, unit))
		}
		if state := m.show(t, unit, "UnitFileState"); state != "enabled" {
			t.Errorf("%s is %s", unit, state)
		}
	}
	if state := m.show(t, adminUnit, "ActiveState"); state != "active" {
		t.Errorf("%s is %s", adminUnit, state)
	}
	for _, unit := range []string{guard, proxy} {
		if m.show(t, unit, "StatusText") == "" {
			t.Errorf("%s has no status line", unit)
		}
	}
	if n := m.show(t, guard, "NFileDescriptorStore"); n != "1" {
		t.Errorf("the guard stored %s descriptors, want 1", n)
	}
	listening := m.sh(t, "ss -Hltn | awk '{print $4}'")
	for _, address := range []string{"127.0.0.1:587", "[::1]:587", "127.0.0.1:465", "[::1]:465", "127.0.0.1:2525", "[::1]:2525"} {
		if !strings.Contains(listening, address) {
			t.Errorf("nothing listens on %s", address)
		}
	}
	if mode := m.run(t, "stat", "--format=%a", "/run/smtpwall/submit.sock"); mode != "666" {
		t.Errorf("submit.sock has mode %s", mode)
	}
	if owner := m.run(t, "stat", "--format=%a %U:%G", "/run/smtpwall/guard.sock"); owner != "660 root:smtpwall" {
		t.Errorf("guard.sock is %s", owner)
	}
}
