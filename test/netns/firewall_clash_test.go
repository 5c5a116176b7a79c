package netns_test

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// TestFirewallForgetsClosedConnections: a source port that one user has used
// towards one place is soon free for a redirected connection of another user to
// another place. The usual times are 120 seconds after a close and 10 after a
// reset.
func TestFirewallForgetsClosedConnections(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, byReset := range []bool{false, true} {
			for _, lockAlone := range []bool{false, true} {
				t.Run(fmt.Sprintf("v6 %t, reset %t, lock alone %t", v6, byReset, lockAlone), func(t *testing.T) {
					f := newFirewall(t, nft.Options{Lock: true})
					f.apply(fwOptions())
					f.serveAll()
					table := rules.Table
					if lockAlone {
						table = rules.LockTable
						f.nft("delete", "table", "inet", rules.Table)
					}
					source := netip.AddrPortFrom(f.Host.Addr(v6), 41000)
					f.useUp(source, netip.AddrPortFrom(f.Remote.Addr(v6), 587), byReset)
					f.awaitFree(source, netip.AddrPortFrom(f.address(toRelay, v6), 587), table)
				})
			}
		}
	}
}

// useUp opens a connection and closes it.
func (f *firewall) useUp(source, to netip.AddrPort, byReset bool) {
	f.t.Helper()
	conn, err := f.Host.DialFrom(f.t.Context(), fwOrdinary+1, source, to)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	if byReset {
		conn.SetLinger(0)
		return
	}
	if _, err := io.ReadAll(conn); err != nil {
		f.t.Fatal(err)
	}
}

// awaitFree connects until that succeeds. Whatever is refused is counted.
func (f *firewall) awaitFree(source, to netip.AddrPort, table string) {
	f.t.Helper()
	refused := uint64(0)
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		conn, err := f.Host.DialFrom(f.t.Context(), fwOrdinary, source, to)
		if err == nil {
			conn.Close()
			break
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			f.t.Fatal(err)
		}
		refused++
		if time.Since(began) > 5*time.Second {
			f.t.Fatalf("source port %d is not free after %s", source.Port(), time.Since(began))
		}
	}
	if refused == 0 {
		f.t.Error("there was no clash, so this shows nothing")
	}
	if got := f.packets(table, rules.CounterClash); got != refused {
		f.t.Errorf("%d clashes are counted, want %d", got, refused)
	}
}

// packets is what a counter has counted.
func (f *firewall) packets(table, counter string) (packets uint64) {
	f.t.Helper()
	_, after, _ := strings.Cut(f.nft("list", "counter", "inet", table, counter), "packets ")
	if _, err := fmt.Sscan(after, &packets); err != nil {
		f.t.Fatal(err)
	}
	return packets
}

// TestFirewallWithoutTimeouts: a kernel that cannot set them redirects as well.
func TestFirewallWithoutTimeouts(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.serveAll()
	without := fwOptions()
	without.NoTimeouts = true
	for _, o := range []rules.Options{without, fwOptions(), without} {
		f.apply(o)
		f.checkCells(f.Host, fwOrdinary, []cell{{toRemote, 587, "listener 587"}, {toRemote, 25, reset}})
		if found := strings.Contains(f.nft("list", "ruleset"), "ct timeout"); found == o.NoTimeouts {
			t.Errorf("times are set: %t, want %t", found, !o.NoTimeouts)
		}
	}
}
