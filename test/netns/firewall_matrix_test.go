package netns_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// place is where a connection goes to, in one of the two families.
type place string

const (
	toRemote    place = "remote"
	toRelay     place = "relay"
	toLoopback  place = "loopback"
	toOwn       place = "own address"
	toBridge    place = "bridge address"
	toContainer place = "container"
)

func (f *firewall) address(p place, v6 bool) netip.Addr {
	pairs := map[place][2]netip.Addr{
		toRemote:    {f.Remote.Addr4(), f.Remote.Addr6()},
		toRelay:     {fwRelay4, fwRelay6},
		toLoopback:  {netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()},
		toOwn:       {f.Host.Addr4(), f.Host.Addr6()},
		toBridge:    {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:c::1")},
		toContainer: {f.Container.Addr4(), f.Container.Addr6()},
	}
	if v6 {
		return pairs[p][1]
	}
	return pairs[p][0]
}

// serveAll puts a server wherever something may go.
func (f *firewall) serveAll() {
	f.t.Helper()
	serve(f.t, f.Remote, "remote", everywhere(25, 465, 587, 2525, fwOddPort, 8080)...)
	serve(f.t, f.Host, "host", everywhere(25)...)
	serve(f.t, f.Container, "container", everywhere(25, 8080)...)
	for _, lo := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
		serve(f.t, f.Host, "listener 465", netip.AddrPortFrom(lo, 465))
		serve(f.t, f.Host, "listener 587", netip.AddrPortFrom(lo, 587))
		serve(f.t, f.Host, "listener 2525", netip.AddrPortFrom(lo, 12525))
	}
}

// cell is one line of a matrix; it holds for IPv4 and IPv6 alike.
type cell struct {
	to   place
	port uint16
	want outcome
}

// everybody is what root and ordinary users get, proxy what the proxy gets,
// container what is forwarded, inbound what comes from the remote.
type matrix struct{ everybody, proxy, container, inbound []cell }

func local() []cell {
	return []cell{
		{toLoopback, 25, "host"}, {toOwn, 25, "host"}, {toBridge, 25, "host"},
		{toLoopback, 465, "listener 465"}, {toLoopback, 587, "listener 587"}, {toLoopback, 12525, "listener 2525"},
		{toRemote, 8080, "remote"}, {toRemote, fwOddPort, "remote"}, {toRelay, 8080, "remote"},
		{toContainer, 8080, "container"},
	}
}

func enforced() matrix {
	return matrix{
		everybody: append(local(), []cell{
			{toRemote, 25, reset}, {toRelay, 25, reset}, {toRelay, fwOddPort, reset},
		}...),
		proxy: append(local(), []cell{
			{toRemote, 25, reset}, {toRemote, 465, reset}, {toRemote, 587, reset}, {toRemote, 2525, reset},
			{toRelay, fwRelayPort, "remote"}, {toRelay, fwOddPort, "remote"},
			{toRelay, 25, reset}, {toRelay, 465, reset}, {toRelay, 2525, reset},
		}...),
		container: []cell{
			{toRemote, 25, reset}, {toRemote, 465, reset}, {toRemote, 587, reset}, {toRemote, 2525, reset},
			{toRelay, fwRelayPort, reset}, {toRelay, fwOddPort, reset},
			{toRemote, 8080, "remote"}, {toRemote, fwOddPort, "remote"}, {toBridge, 25, "host"}, {toOwn, 25, "host"},
		},
		inbound: []cell{{toOwn, 25, "host"}, {toContainer, 8080, "container"}, {toContainer, 25, reset}},
	}
}

func redirecting() matrix {
	m := enforced()
	for _, to := range []place{toRemote, toRelay} {
		m.everybody = append(m.everybody,
			cell{to, 465, "listener 465"}, cell{to, 587, "listener 587"}, cell{to, 2525, "listener 2525"})
	}
	return m
}

func rejecting() matrix {
	m := enforced()
	for _, to := range []place{toRemote, toRelay} {
		m.everybody = append(m.everybody, cell{to, 465, reset}, cell{to, 587, reset}, cell{to, 2525, reset})
	}
	return m
}

func observing() matrix {
	all := append(local(), []cell{
		{toRemote, 25, "remote"}, {toRemote, 465, "remote"}, {toRemote, 587, "remote"}, {toRemote, 2525, "remote"},
		{toRelay, fwRelayPort, "remote"}, {toRelay, fwOddPort, "remote"},
	}...)
	return matrix{
		everybody: all, proxy: all,
		container: []cell{{toRemote, 25, "remote"}, {toRemote, 587, "remote"}, {toBridge, 25, "host"}},
		inbound:   []cell{{toOwn, 25, "host"}, {toContainer, 25, "container"}},
	}
}

func (f *firewall) checkMatrix(m matrix) {
	f.t.Helper()
	f.checkCells(f.Host, 0, m.everybody)
	f.checkCells(f.Host, fwOrdinary, m.everybody)
	f.checkCells(f.Host, fwProxy, m.proxy)
	f.checkCells(f.Container, 0, m.container)
	f.checkCells(f.Container, fwProxy, m.container)
	f.checkCells(f.Remote, 0, m.inbound)
}

func (f *firewall) checkCells(from *lab.Namespace, uid uint32, cells []cell) {
	f.t.Helper()
	for _, v6 := range []bool{false, true} {
		for _, c := range cells {
			to := netip.AddrPortFrom(f.address(c.to, v6), c.port)
			got := dial(f.t, from, uid, to)
			if got == reset && c.want != reset {
				// Redirected connections of one source port clash, and the
				// kernel chooses ports at random: another one tells.
				got = dial(f.t, from, uid, to)
			}
			if got != c.want {
				f.t.Errorf("uid %d in %s to %s (%s): %s, want %s", uid, from, to, c.to, got, c.want)
			}
		}
	}
}

func TestFirewallMatrix(t *testing.T) {
	reject, observe := fwOptions(), fwOptions()
	reject.SubmissionPorts = rules.RejectSubmission
	observe.Mode = rules.Observe
	for _, c := range []struct {
		name    string
		options rules.Options
		want    matrix
	}{
		{"redirect", fwOptions(), redirecting()},
		{"reject", reject, rejecting()},
		{"observe", observe, observing()},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFirewall(t, nft.Options{Lock: true})
			f.apply(c.options)
			f.serveAll()
			f.checkMatrix(c.want)
			if c.options.Mode == rules.Enforce {
				f.checkLockIdle()
				f.nft("delete", "table", "inet", rules.Table)
				f.t.Log("with the lock table alone")
				f.checkMatrix(c.want)
			}
		})
	}
}

// checkLockIdle: in normal times all is refused, and so attributed, by the
// plain table.
func (f *firewall) checkLockIdle() {
	f.t.Helper()
	for _, counter := range []string{rules.CounterOut, rules.CounterForward} {
		got := f.nft("list", "counter", "inet", rules.LockTable, counter)
		want := fmt.Sprintf("counter %s {\n\t\tpackets 0 bytes 0\n", counter)
		if !strings.Contains(got, want) {
			f.t.Errorf("the lock table refused something:\n%s", got)
		}
	}
}

// published sends what comes for port 25 of the host to the container, as
// Docker does for a published port.
const published = `table inet published {
	chain arriving {
		type nat hook prerouting priority -100
		ip daddr 198.51.100.1 tcp dport 25 dnat ip to 192.0.2.2:25
		ip6 daddr 2001:db8::1 tcp dport 25 dnat ip6 to [2001:db8:c::2]:25
	}
}
`

// TestFirewallLeavesInsideAlone: mail from outside gets to a container whose
// network is inside, by its address or a published port; its own mail does not
// get out.
func TestFirewallLeavesInsideAlone(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.serveAll()
	f.load(f.Host, published)
	f.apply(fwOptions())
	f.checkCells(f.Remote, 0, []cell{{toContainer, 25, reset}, {toOwn, 25, reset}})
	o := fwOptions()
	o.Inside = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:c::/64")}
	f.apply(o)
	check := func() {
		f.checkCells(f.Remote, 0, []cell{{toContainer, 25, "container"}, {toOwn, 25, "container"}})
		f.checkCells(f.Container, 0, []cell{{toRemote, 25, reset}, {toRelay, fwRelayPort, reset}})
	}
	check()
	f.nft("delete", "table", "inet", rules.Table)
	t.Log("with the lock table alone")
	check()
}

// TestFirewallRejectDoesNotTrack: without a redirect there is no nat chain, and
// connections are not tracked because of us.
func TestFirewallRejectDoesNotTrack(t *testing.T) {
	reject := fwOptions()
	reject.SubmissionPorts = rules.RejectSubmission
	observe := fwOptions()
	observe.Mode = rules.Observe
	for _, c := range []struct {
		name    string
		options rules.Options
		tracks  bool
	}{{"reject", reject, false}, {"observe", observe, false}, {"redirect", fwOptions(), true}} {
		t.Run(c.name, func(t *testing.T) {
			f := newFirewall(t, nft.Options{Lock: true})
			f.serveAll()
			f.apply(c.options)
			if found := strings.Contains(f.nft("list", "ruleset"), "type nat"); found != c.tracks {
				t.Errorf("there is a nat chain: %t, want %t", found, c.tracks)
			}
			if got := dial(t, f.Host, fwOrdinary, netip.AddrPortFrom(f.Remote.Addr4(), 8080)); got != "remote" {
				t.Fatalf("port 8080: %s", got)
			}
			count := strings.TrimSpace(f.run(f.Host, "", "sysctl", "-n", "net.netfilter.nf_conntrack_count"))
			if tracked := count != "0"; tracked != c.tracks {
				t.Errorf("%s connections are tracked, want some: %t", count, c.tracks)
			}
		})
	}
}
