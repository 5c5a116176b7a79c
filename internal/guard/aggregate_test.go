package guard

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/smtpwall/smtpwall/rules/nft"
)

var (
	epoch  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	target = netip.MustParseAddrPort("203.0.113.25:25")
)

func count(uid uint32, dst netip.AddrPort, n uint64) nft.Count {
	return nft.Count{UID: uid, CGroup: 7, Destination: dst, Packets: n}
}

func counts(list ...nft.Count) nft.Counts { return nft.Counts{Counts: list} }

func TestAggregatorFirstAtOnceThenByWindow(t *testing.T) {
	a := newAggregator()
	steps := []struct {
		at   time.Duration
		add  uint64
		want string // counts and whether first
	}{
		{0, 1, "[1 true]"},
		{1 * time.Second, 5, ""},
		{9 * time.Second, 2, ""},
		{10 * time.Second, 0, "[7 false]"},
		{15 * time.Second, 3, ""},
		{20 * time.Second, 4, "[3 false]"},
		{30 * time.Second, 0, "[4 false]"},
		{40 * time.Second, 0, ""}, // a window without any: forgotten
		{41 * time.Second, 1, "[1 true]"},
	}
	for _, s := range steps {
		var c nft.Counts
		if s.add > 0 {
			c = counts(count(1000, target, s.add))
		}
		got := ""
		for _, r := range a.add(epoch.Add(s.at), c) {
			got += fmt.Sprintf("[%d %v]", r.count, r.first)
			if r.uid != 1000 || r.cgroup != 7 || r.destination != target || !r.known {
				t.Errorf("at %s: %+v", s.at, r)
			}
		}
		if got != s.want {
			t.Errorf("at %s: got %q, want %q", s.at, got, s.want)
		}
	}
}

func TestAggregatorSumsUpInAFlood(t *testing.T) {
	a := newAggregator()
	var sum, events uint64
	take := func(reports []report) {
		for _, r := range reports {
			sum += r.count
			events++
		}
	}
	for i := range 250 { // 25 s, a million attempts
		take(a.add(epoch.Add(time.Duration(i)*100*time.Millisecond), counts(count(33, target, 4000))))
	}
	take(a.drain(epoch.Add(26 * time.Second)))
	if sum != 1_000_000 || events > 5 {
		t.Errorf("%d attempts in %d events", sum, events)
	}
}

func TestAggregatorBoundsDestinations(t *testing.T) {
	a := newAggregator()
	var list []nft.Count
	for i := range 30_000 {
		addr := netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})
		list = append(list, count(33, netip.AddrPortFrom(addr, 25), 2))
	}
	reports := a.add(epoch, counts(list...))
	if len(reports) != maxDestinations+1 {
		t.Fatalf("%d events", len(reports))
	}
	many := slices.MaxFunc(reports, func(a, b report) int { return cmp.Compare(a.count, b.count) })
	if want := uint64(2 * (30_000 - maxDestinations)); many.count != want || many.destination.IsValid() || many.uid != 33 || !many.known {
		t.Errorf("the event of the other destinations is %+v, want a count of %d", many, want)
	}
}

// flood is an aggregator that is told of a lot, and what comes of it.
type flood struct {
	*aggregator
	now     time.Time
	reports []report // of the last window
	sum     uint64
}

// window gives the aggregator as many counts as n in a window, in ten parts.
func (f *flood) window(n int, of func(i int) nft.Count) {
	f.reports = nil
	for part := range 10 {
		var list []nft.Count
		for i := part * n / 10; i < (part+1)*n/10; i++ {
			list = append(list, of(i))
		}
		f.take(f.add(f.now, counts(list...)))
		f.now = f.now.Add(window / 10)
	}
}

func (f *flood) take(reports []report) {
	f.reports = append(f.reports, reports...)
	for _, r := range reports {
		f.sum += r.count
	}
}

// spoofed is one attempt from an address that nobody has.
func spoofed(in string, i int) nft.Count {
	source := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	return nft.Count{Forwarded: true, InInterface: in, Source: source, Destination: target, Packets: 1}
}

// TestAggregatorBoundsEvents: whoever can have as many uids or sources as he
// likes must not fill the disk, and must not be able to hide others.
func TestAggregatorBoundsEvents(t *testing.T) {
	for _, c := range []struct {
		name   string
		of     func(i int) nft.Count
		reason string // of most of them
	}{
		{"sources", func(i int) nft.Count { return spoofed("br0", i) },
			"forwarded from br0: 4096 or more sources, too many for each to be told"},
		{"subordinate uids", func(i int) nft.Count { return count(131072+uint32(i)%65536, target, 1) },
			"4096 or more users and units with uids from 131"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := flood{aggregator: newAggregator(), now: epoch}
			for round := range 5 {
				f.window(60_000, c.of)
				if len(f.reports) > maxKinds+maxGroups || round > 0 && len(f.reports) < 2 {
					t.Errorf("%d events in a window", len(f.reports))
				}
			}
			most := slices.MaxFunc(f.reports, func(a, b report) int { return cmp.Compare(a.count, b.count) })
			if got := reasonOf(most, nft.Attempt{}); !strings.HasPrefix(got, c.reason) || most.known || most.count < 50_000 {
				t.Errorf("most are told as %q, %+v", got, most)
			}
			if most.group && !most.forwarded && most.members.high != 131072+60_000-1 {
				t.Errorf("the highest uid is %d", most.members.high)
			}
			f.take(f.add(f.now, counts(count(34, target, 7), spoofed("br1", 1))))
			honest := f.reports[len(f.reports)-2:]
			if honest[0].uid != 34 || honest[0].destination != target || honest[0].count != 7 || honest[1].in != "br1" || !honest[1].known {
				t.Errorf("others are told as %+v", honest)
			}
			f.take(f.drain(f.now))
			if f.sum != 5*60_000+8 {
				t.Errorf("%d attempts reported, want %d", f.sum, 5*60_000+8)
			}
			f.flush(f.now.Add(window))
			f.flush(f.now.Add(2 * window))
			if len(f.open)+len(f.destinations)+len(f.kinds)+f.groups != 0 {
				t.Errorf("%d kinds, %d subjects, %d and %d groups stay for ever", len(f.open), len(f.destinations), len(f.kinds), f.groups)
			}
		})
	}
}

// TestAggregatorTellsAGroupOfOne: with all room taken, an owner who is alone in
// his block of uids is still told.
func TestAggregatorTellsAGroupOfOne(t *testing.T) {
	f := flood{aggregator: newAggregator(), now: epoch}
	f.window(4*uidBlock, func(i int) nft.Count { return count(uint32(i+uidBlock), target, 1) })
	reports := f.add(f.now, nft.Counts{Counts: []nft.Count{count(0, target, 2), count(0, target, 3)}})
	at := slices.IndexFunc(reports, func(r report) bool { return r.first && r.uid < uidBlock })
	if at < 0 || !reports[at].known || reports[at].uid != 0 || reports[at].cgroup != 7 || reports[at].count != 5 {
		t.Fatalf("got %+v", reports)
	}
	f.now = f.now.Add(window)
	f.add(f.now, nft.Counts{})
	f.add(f.now, counts(count(1, target, 2), count(2, target, 3)))
	f.now = f.now.Add(window)
	for _, r := range f.add(f.now, nft.Counts{}) {
		if r.group && r.uid == 0 && (r.members.low != 1 || r.members.high != 2 || r.members.count != 2) {
			t.Errorf("got %+v", r)
		}
	}
}

// TestAggregatorBoundsGroups: there may be as many blocks of uids.
func TestAggregatorBoundsGroups(t *testing.T) {
	f := flood{aggregator: newAggregator(), now: epoch}
	f.window(60_000, func(i int) nft.Count { return count(uint32(i)*uidBlock, target, 1) })
	if len(f.reports) > maxKinds+maxGroups+1 {
		t.Errorf("%d events", len(f.reports))
	}
	if f.take(f.drain(f.now)); f.sum != 60_000 {
		t.Errorf("%d attempts reported", f.sum)
	}
}

// What the kernel had no room for is told by its interface.
func TestAggregatorOfFullSets(t *testing.T) {
	a := newAggregator()
	reports := a.add(epoch, counts(nft.Count{Forwarded: true, InInterface: "br0", Packets: 9}, nft.Count{UID: 33, CGroup: 7, Packets: 8}))
	if len(reports) != 2 {
		t.Fatalf("got %+v", reports)
	}
	if got, want := reasonOf(reports[0], nft.Attempt{}), "forwarded from br0: sources, too many for each to be told"; got != want || reports[0].known {
		t.Errorf("got %q, want %q", got, want)
	}
	if r := reports[1]; r.uid != 33 || !r.known || reasonOf(r, nft.Attempt{}) != "destinations not told apart" {
		t.Errorf("got %+v", r)
	}
}

func TestLoudness(t *testing.T) {
	var l loudness
	levels := map[zapcore.Level]int{}
	for i := range 3 * 200 {
		levels[l.level(epoch.Add(time.Duration(i)*window/200), i%2 == 0)]++
	}
	if levels[zapcore.InfoLevel] != 3*maxLoud || levels[zapcore.DebugLevel] != 3*(200-maxLoud) {
		t.Errorf("got %v", levels)
	}
}

func TestAggregatorCountsWhatHasNoOwner(t *testing.T) {
	a := newAggregator()
	reports := a.add(epoch, nft.Counts{OtherOut: 3, OtherForward: 4})
	if len(reports) != 2 {
		t.Fatalf("got %+v", reports)
	}
	for _, r := range reports {
		want := uint64(3)
		if r.forwarded {
			want = 4
		}
		if r.known || r.count != want {
			t.Errorf("got %+v", r)
		}
	}
}
