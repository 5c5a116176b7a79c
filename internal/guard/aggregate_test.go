package guard

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

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

func TestAggregatorBoundsSubjects(t *testing.T) {
	a := newAggregator()
	var sum uint64
	for uid := range uint32(20_000) {
		for _, r := range a.add(epoch, counts(count(uid, target, 1))) {
			sum += r.count
		}
	}
	if len(a.open) > maxSubjects+1 {
		t.Errorf("%d kinds are kept", len(a.open))
	}
	reports := a.drain(epoch)
	if len(reports) != 1 || reports[0].known {
		t.Fatalf("left over: %+v", reports)
	}
	if sum += reports[0].count; sum != 20_000 {
		t.Errorf("%d attempts reported, want 20,000", sum)
	}
	a.flush(epoch.Add(window))
	if a.flush(epoch.Add(2 * window)); len(a.open) != 0 || len(a.destinations) != 0 {
		t.Errorf("%d kinds and %d subjects stay for ever", len(a.open), len(a.destinations))
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
