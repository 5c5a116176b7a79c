package netns_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// deviceLeaks is a table of the remote that counts mail on the wire, before the
// remote's own address checks.
const deviceLeaks = `table netdev leaks {
	counter leaked { }
	chain arriving {
		type filter hook ingress device eth0 priority 0
		tcp dport { 25, 465, 587, 2525, 12525 } counter name leaked
	}
}
`

func (f *firewall) deviceLeaked() bool {
	f.t.Helper()
	return !strings.Contains(f.run(f.Remote, "", "nft", "list", "counter", "netdev", "leaks", "leaked"), "packets 0 ")
}

// dialBound connects from a socket of an ordinary user that is bound to the
// host's uplink.
func (f *firewall) dialBound(to netip.AddrPort) outcome {
	dialer := net.Dialer{Control: bindToUplink, Timeout: 2 * time.Second}
	dialer.SetMultipathTCP(false)
	began := time.Now()
	var conn net.Conn
	err := f.Host.DoAs(fwOrdinary, fwOrdinary, func() (err error) {
		conn, err = dialer.DialContext(f.t.Context(), "tcp", to.String())
		return err
	})
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) && time.Since(began) < atOnce:
		return reset
	case isTimeout(err):
		return silent
	case err != nil:
		return outcome(err.Error())
	}
	defer conn.Close()
	name, err := io.ReadAll(conn)
	if err != nil {
		return outcome(err.Error())
	}
	return outcome(name)
}

func isTimeout(err error) bool {
	var failed net.Error
	return errors.As(err, &failed) && failed.Timeout()
}

func bindToUplink(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) { failed = unix.BindToDevice(int(fd), lab.Uplink) })
	return errors.Join(err, failed)
}

// checkBound: no mail of a socket that is bound to the uplink gets out, whether
// it is meant for loopback, which gives toLoopback, or sent there by the
// redirect, which gives redirected.
func (f *firewall) checkBound(toLoopback, redirected outcome) {
	f.t.Helper()
	var destinations []netip.AddrPort
	for _, port := range []uint16{25, 465, 587, 2525} {
		for _, to := range []netip.Addr{
			netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.IPv6Loopback(),
			f.Remote.Addr4(), f.Remote.Addr6(),
		} {
			destinations = append(destinations, netip.AddrPortFrom(to, port))
		}
	}
	var all sync.WaitGroup
	for _, to := range destinations {
		all.Go(func() { // waited for below
			want := redirected
			switch {
			case to.Addr().IsLoopback():
				want = toLoopback
			case to.Port() == 25:
				want = reset
			}
			if got := f.dialBound(to); got != want {
				f.t.Errorf("bound to the uplink, to %s: %s, want %s", to, got, want)
			}
		})
	}
	all.Wait()
	if f.deviceLeaked() {
		f.t.Error("mail of a socket that is bound to the uplink got out")
	}
}

// checkUnbound: other traffic of that host goes on.
func (f *firewall) checkUnbound(submission outcome) {
	f.t.Helper()
	f.checkCells(f.Host, fwOrdinary, []cell{
		{toLoopback, 25, "host"}, {toOwn, 25, "host"}, {toLoopback, 587, "listener 587"}, {toRemote, 587, submission},
	})
}

// TestFirewallHoldsSocketsBoundToADevice: their packets to loopback addresses
// leave by that device, and so do redirected ones. They are reset at once, or
// lost where the route has no gateway that would give them away.
func TestFirewallHoldsSocketsBoundToADevice(t *testing.T) {
	reject := fwOptions()
	reject.SubmissionPorts = rules.RejectSubmission
	for _, c := range []struct {
		name           string
		options        rules.Options
		unbound        outcome
		withoutGateway []outcome
	}{
		{"redirect", fwOptions(), "listener 587", []outcome{silent, silent}},
		{"reject", reject, reset, []outcome{silent, reset}},
	} {
		for _, gateway := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/gateway %t", c.name, gateway), func(t *testing.T) {
				f := newFirewall(t, nft.Options{Lock: true})
				f.serveAll()
				bound := []outcome{reset, reset}
				if !gateway {
					bound = c.withoutGateway
					f.withoutGateway()
				}
				f.apply(c.options)
				f.load(f.Remote, deviceLeaks)
				f.checkBound(bound[0], bound[1])
				f.checkLockIdle()
				f.checkUnbound(c.unbound)
				f.nft("delete", "table", "inet", rules.Table)
				t.Log("with the lock table alone")
				f.checkBound(bound[0], bound[1])
				f.checkUnbound(c.unbound)
			})
		}
	}
}

// TestFirewallDeviceLeakIsSeen without rules, so the counter would tell.
func TestFirewallDeviceLeakIsSeen(t *testing.T) {
	for _, gateway := range []bool{true, false} {
		for _, to := range []string{"127.0.0.2:25", "[::1]:25"} {
			t.Run(fmt.Sprintf("%s/gateway %t", to, gateway), func(t *testing.T) {
				f := newFirewall(t, nft.Options{})
				if !gateway {
					f.withoutGateway()
				}
				f.load(f.Remote, deviceLeaks)
				f.dialBound(netip.MustParseAddrPort(to))
				if !f.deviceLeaked() {
					t.Error("nothing was counted")
				}
			})
		}
	}
}

// withoutGateway makes the uplink a line with one other end: routes without a
// gateway, nobody to be looked for.
func (f *firewall) withoutGateway() {
	f.t.Helper()
	f.run(f.Host, "", "ip", "link", "set", lab.Uplink, "arp", "off")
	for _, family := range []string{"-4", "-6"} {
		f.run(f.Host, "", "ip", family, "route", "replace", "default", "dev", lab.Uplink)
	}
}

// TestFirewallHoldsWhatIsTranslatedToOutside: a port forward of the
// administrator's from an address of the host is no way out.
func TestFirewallHoldsWhatIsTranslatedToOutside(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.serveAll()
	f.load(f.Host, `table inet forwards {
	chain going {
		type nat hook output priority -150
		ip daddr 198.51.100.1 tcp dport 8025 dnat ip to 198.51.100.254:25
		ip6 daddr 2001:db8::1 tcp dport 8025 dnat ip6 to [2001:db8::fe]:25
		ip daddr 198.51.100.1 tcp dport 8026 dnat ip to 192.0.2.2:25
		ip6 daddr 2001:db8::1 tcp dport 8026 dnat ip6 to [2001:db8:c::2]:25
		tcp dport 8027 redirect to :25
	}
}
`)
	inside := fwOptions()
	inside.Inside = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:c::/64")}
	f.checkCells(f.Host, fwOrdinary, []cell{{toOwn, 8025, "remote"}, {toOwn, 8026, "container"}, {toOwn, 8027, "host"}})
	check := func(container outcome) {
		f.checkCells(f.Host, fwOrdinary, []cell{{toOwn, 8025, reset}, {toOwn, 8026, container}, {toOwn, 8027, "host"}, {toRemote, 8027, "host"}})
	}
	f.apply(fwOptions())
	check(reset)
	f.apply(inside)
	check("container")
	f.nft("delete", "table", "inet", rules.Table)
	t.Log("with the lock table alone")
	check("container")
}
