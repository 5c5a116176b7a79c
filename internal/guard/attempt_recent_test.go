package guard

import (
	"cmp"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpwall/smtpwall/rules/nft"
)

var elsewhere = netip.MustParseAddrPort("203.0.113.26:25")

// TestComplete: what the kernel's sets had no room for is told as far as the
// log saw it, and the sum stays.
func TestComplete(t *testing.T) {
	source := netip.MustParseAddr("192.0.2.2")
	out := func(uid uint32, to netip.AddrPort) nft.Attempt {
		return nft.Attempt{HasUID: true, UID: uid, Destination: to}
	}
	fwd := nft.Attempt{Forwarded: true, InInterface: "br0", Source: netip.AddrPortFrom(source, 40000), Destination: target}
	for _, c := range []struct {
		name   string
		logged []nft.Attempt
		late   bool // logged after the last reading
		open   []kindOfAttempt
		counts nft.Counts
		want   nft.Counts
	}{
		{
			name:   "nothing is missing",
			logged: []nft.Attempt{out(34, target)},
			counts: counts(count(34, target, 1)),
			want:   counts(count(34, target, 1)),
		},
		{
			name:   "destinations",
			logged: []nft.Attempt{out(34, target), out(34, target), out(35, elsewhere)},
			counts: counts(count(34, netip.AddrPort{}, 7)),
			want:   counts(count(34, netip.AddrPort{}, 5), count(34, target, 2)),
		},
		{
			name:   "more logged than counted",
			logged: []nft.Attempt{out(34, target), out(34, target)},
			counts: counts(count(34, netip.AddrPort{}, 1)),
			want:   counts(count(34, target, 1)),
		},
		{
			name:   "a destination that has a count",
			logged: []nft.Attempt{out(34, target)},
			counts: counts(count(34, target, 1), count(34, netip.AddrPort{}, 2)),
			want:   counts(count(34, netip.AddrPort{}, 2), count(34, target, 1)),
		},
		{
			name:   "a destination that had a count lately",
			logged: []nft.Attempt{out(34, target)},
			open:   []kindOfAttempt{kindOf(count(34, target, 1))},
			counts: counts(count(34, netip.AddrPort{}, 2)),
			want:   counts(count(34, netip.AddrPort{}, 2)),
		},
		{
			name:   "owners",
			logged: []nft.Attempt{out(34, target), out(35, target)},
			counts: nft.Counts{Counts: []nft.Count{count(35, target, 1)}, OtherOut: 3},
			want: nft.Counts{Counts: []nft.Count{{UID: 34, Destination: target, Packets: 1}, count(35, target, 1)},
				OtherOut: 2},
		},
		{
			name:   "owners that were logged too late",
			logged: []nft.Attempt{out(34, target)},
			late:   true,
			counts: nft.Counts{OtherOut: 3},
			want:   nft.Counts{OtherOut: 3},
		},
		{
			name:   "sources",
			logged: []nft.Attempt{fwd},
			counts: counts(nft.Count{Forwarded: true, InInterface: "br0", Packets: 2}),
			want: counts(nft.Count{Forwarded: true, InInterface: "br0", Packets: 1},
				nft.Count{Forwarded: true, InInterface: "br0", Source: source, Destination: target, Packets: 1}),
		},
		{
			name:   "sources behind another interface",
			logged: []nft.Attempt{fwd},
			counts: counts(nft.Count{Forwarded: true, InInterface: "br1", Packets: 2}),
			want:   counts(nft.Count{Forwarded: true, InInterface: "br1", Packets: 2}),
		},
		{
			name:   "sources without an interface",
			logged: []nft.Attempt{fwd},
			counts: nft.Counts{OtherForward: 1, OtherOut: 1},
			want: nft.Counts{Counts: []nft.Count{{Forwarded: true, InInterface: "br0", Source: source, Destination: target, Packets: 1}},
				OtherOut: 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r recentAttempts
				for _, a := range c.logged {
					a.Time = time.Now()
					r.note(a)
				}
				before := time.Now()
				if !c.late {
					time.Sleep(time.Second)
					before = time.Now()
				}
				open := map[kindOfAttempt]*gathering{}
				for _, k := range c.open {
					open[k] = &gathering{}
				}
				got := r.complete(c.counts, open, before)
				slices.SortFunc(got.Counts, func(a, b nft.Count) int {
					return cmp.Or(cmp.Compare(a.UID, b.UID), a.Destination.Compare(b.Destination))
				})
				if !slices.Equal(got.Counts, c.want.Counts) || got.OtherOut != c.want.OtherOut || got.OtherForward != c.want.OtherForward {
					t.Errorf("got %+v\nwant %+v", got, c.want)
				}
				again := r.complete(nft.Counts{OtherOut: 100, OtherForward: 100}, open, time.Now())
				if c.name == "nothing is missing" && len(again.Counts) != 0 {
					t.Errorf("what had its count is used again: %+v", again)
				}
				time.Sleep(recentAge + time.Second)
				if old := r.complete(nft.Counts{OtherOut: 100}, open, time.Now()); len(old.Counts) != 0 {
					t.Errorf("what is long past is used: %+v", old)
				}
			})
		})
	}
}
