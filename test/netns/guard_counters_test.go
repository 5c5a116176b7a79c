package netns_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// openCounters reads the counters of a host, from now on.
func openCounters(t *testing.T, host *lab.Namespace) *nft.AttemptCounters {
	t.Helper()
	var counters *nft.AttemptCounters
	if err := host.Do(func() (err error) {
		counters, err = nft.OpenAttemptCounters(t.Context())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { counters.Close() })
	return counters
}

func readCounts(t *testing.T, c *nft.AttemptCounters) nft.Counts {
	t.Helper()
	begun := time.Now()
	counts, err := c.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("read %d counts in %s", len(counts.Counts), time.Since(begun).Round(time.Microsecond))
	return counts
}

// readTwice reads until it is sure what is in no set.
func readTwice(t *testing.T, c *nft.AttemptCounters) (counts []nft.Count, other uint64) {
	t.Helper()
	for range 2 {
		got := readCounts(t, c)
		counts, other = append(counts, got.Counts...), other+got.OtherOut
	}
	return counts, other
}

// knockEach sends one opening packet to port 25 of each of so many addresses.
func knockEach(t *testing.T, host *lab.Namespace, from, to int) {
	t.Helper()
	if err := host.DoAs(guardUID, guardUID, func() error {
		for i := from; i < to; i++ {
			addr := netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)})
			if err := knock(netip.AddrPortFrom(addr, 25)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestGuardCountersOfBigAndFullSets(t *testing.T) {
	f := newFirewall(t, nft.Options{})
	f.apply(fwOptions())
	counters := openCounters(t, f.Host)
	if got := readCounts(t, counters); got.Total() != 0 {
		t.Fatalf("counted %d before anything happened", got.Total())
	}

	// A set that grows fast refuses some of the new elements; they are counted
	// all the same.
	knockEach(t, f.Host, 0, 30_000)
	got, other := readTwice(t, counters)
	if n := uint64(len(got)); n+other != 30_000 || n < 20_000 {
		t.Errorf("counted %d destinations and %d others, want 30,000", n, other)
	}
	for _, c := range got[:10] {
		if c.UID != guardUID || c.CGroup == 0 || c.Forwarded || c.Destination.Port() != 25 || c.Packets != 1 {
			t.Errorf("got %+v", c)
		}
	}

	const (
		beyond = 20_000 // more than the set takes
		spare  = 16     // the kernel may take a few more or fewer
	)
	knockEach(t, f.Host, 30_000, rules.RecordSize+beyond)
	more, others := readTwice(t, counters)
	apart, of := split(more)
	if n := apart + of[guardUID] + others; n != rules.RecordSize+beyond-30_000 || of[guardUID]+spare < beyond-other-others {
		t.Errorf("counted %d destinations, %d of the owner and %d others, want %d", apart, of[guardUID], others, rules.RecordSize+beyond-30_000)
	}
	if got := readCounts(t, counters); got.Total() != 0 {
		t.Errorf("counted %d more", got.Total())
	}

	// Nobody else is hidden behind a full set.
	knockAs(t, f.Host, 34, 7)
	if _, of := split(readCounts(t, counters).Counts); of[34] != 7 {
		t.Errorf("another user's attempts are %v, want 7 of uid 34", of)
	}
	// More than it takes: a set that grows fast refuses some and has room for them later.
	for uid := range uint32(rules.OwnerSize + 512) {
		knockAs(t, f.Host, 100_000+uid, 1)
	}
	readTwice(t, counters)
	knockAs(t, f.Host, 35, 8)
	got, other = readTwice(t, counters)
	if len(got) != 1 || got[0] != (nft.Count{UID: 35, Packets: 8}) || other != 0 {
		t.Errorf("counted %+v and %d others, want 8 of uid 35 without a cgroup", got, other)
	}
}

// split returns the packets to known destinations, and those to others by uid.
func split(counts []nft.Count) (apart uint64, of map[uint32]uint64) {
	of = map[uint32]uint64{}
	for _, c := range counts {
		if c.Destination.IsValid() {
			apart += c.Packets
		} else {
			of[c.UID] += c.Packets
		}
	}
	return apart, of
}

// knockAs sends opening packets to a destination of its own.
func knockAs(t *testing.T, host *lab.Namespace, uid uint32, packets int) {
	t.Helper()
	if err := host.DoAs(uid, uid, func() error {
		for range packets {
			if err := knock(netip.MustParseAddrPort("198.18.0.1:25")); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestGuardCountersOfAFullSetOfForwarded(t *testing.T) {
	f := newFirewall(t, nft.Options{})
	f.apply(fwOptions())
	counters := openCounters(t, f.Host)
	knockEach(t, f.Container, 0, 5)
	got := readCounts(t, counters)
	for _, c := range got.Counts {
		if !c.Forwarded || c.InInterface != "br0" || c.Source != f.Container.Addr(false) || c.Packets != 1 {
			t.Errorf("got %+v", c)
		}
	}
	// A set that grows fast refuses some of the new elements, thousands on a busy
	// host; they are counted by interface or as others. It is full when each of as
	// many destinations as it takes has been counted apart.
	const (
		beyond = 1000
		spare  = 16 // the kernel may take a few more or fewer
	)
	for round := 1; ; round++ {
		knockEach(t, f.Container, 0, rules.RecordSize)
		apart, in, other := readForwarded(t, counters)
		if apart+in+other != rules.RecordSize || round == 20 {
			t.Fatalf("round %d: counted %d apart, %d by interface and %d others, want %d", round, apart, in, other, rules.RecordSize)
		}
		if apart+spare >= rules.RecordSize {
			break
		}
	}
	knockEach(t, f.Container, rules.RecordSize, rules.RecordSize+beyond)
	apart, in, other := readForwarded(t, counters)
	if apart+in+other != beyond || in+spare < beyond {
		t.Errorf("beyond a full set counted %d apart, %d by interface and %d others, want %d by interface", apart, in, other, beyond)
	}
}

// readForwarded sums up what was forwarded: to known destinations, by interface
// alone, and in no set.
func readForwarded(t *testing.T, counters *nft.AttemptCounters) (apart, in, other uint64) {
	t.Helper()
	for range 2 { // until it is sure what is in no set
		got := readCounts(t, counters)
		for _, c := range got.Counts {
			if c.Destination.IsValid() {
				apart += c.Packets
			} else if c.Forwarded && c.InInterface == "br0" && !c.Source.IsValid() {
				in += c.Packets
			}
		}
		other += got.OtherForward
	}
	return apart, in, other
}

func TestGuardCountersOfAReplacedTable(t *testing.T) {
	f := newFirewall(t, nft.Options{})
	counters := openCounters(t, f.Host)
	if got := readCounts(t, counters); got.Total() != 0 {
		t.Errorf("counted %d without a table", got.Total())
	}
	f.apply(fwOptions())
	knockEach(t, f.Host, 0, 50)
	if got := readCounts(t, counters); got.Total() != 50 {
		t.Errorf("counted %d of a new table, want 50", got.Total())
	}
	knockEach(t, f.Host, 0, 5)
	f.apply(fwOptions()) // changes nothing, and so keeps the counts
	if got := readCounts(t, counters); got.Total() != 5 || len(got.Counts) != 5 {
		t.Errorf("counted %d, want 5", got.Total())
	}
	f.nft("delete", "table", "inet", rules.Table)
	f.apply(fwOptions())
	knockEach(t, f.Host, 0, 60) // more than before, so that no count shows that it is new
	if got := readCounts(t, counters); got.Total() != 60 || got.OtherOut != 0 {
		t.Errorf("counted %d (%d in no set) after a replacement, want 60", got.Total(), got.OtherOut)
	}
	late := openCounters(t, f.Host)
	knockEach(t, f.Host, 0, 7)
	if got := readCounts(t, late); got.Total() != 7 {
		t.Errorf("one who comes later counted %d, want 7", got.Total())
	}
}

// TestGuardCountersLoseNothingToAContext ends the context before and within a reading.
func TestGuardCountersLoseNothingToAContext(t *testing.T) {
	f := newFirewall(t, nft.Options{})
	f.apply(fwOptions())
	counters := openCounters(t, f.Host)
	const connects = 3000
	var total uint64
	for i := range 10 {
		knockEach(t, f.Host, 0, connects)
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(time.Duration(i)*200*time.Microsecond, cancel)
		if i == 0 {
			cancel()
		}
		counts, err := counters.Read(ctx)
		if i == 0 && err == nil {
			t.Error("read although the context had ended")
		}
		timer.Stop()
		cancel()
		total += counts.Total()
	}
	for range 2 {
		total += readCounts(t, counters).Total()
	}
	if total != 10*connects {
		t.Errorf("counted %d, want %d", total, 10*connects)
	}
}

// TestGuardCountersOfTheLock leaves the block to the lock for a while.
func TestGuardCountersOfTheLock(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.apply(fwOptions())
	counters := openCounters(t, f.Host)
	knockEach(t, f.Host, 0, 10)
	f.nft("flush", "ruleset")
	knockEach(t, f.Host, 0, 20)
	if got := readCounts(t, counters); got.OtherOut != 20 || got.Total() != 20 {
		t.Errorf("counted %d, of which %d have no owner, want the 20 of the lock", got.Total(), got.OtherOut)
	}
	f.apply(fwOptions())
	knockEach(t, f.Host, 0, 30)
	if got := readCounts(t, counters); got.OtherOut != 0 || got.Total() != 30 {
		t.Errorf("counted %d, of which %d have no owner, want 30 of the new table", got.Total(), got.OtherOut)
	}
}

// TestGuardOneReaderOfTheLog also shows what a second one is told.
func TestGuardOneReaderOfTheLog(t *testing.T) {
	f := newFirewall(t, nft.Options{})
	f.apply(fwOptions())
	open := func() (r *nft.AttemptReader, err error) {
		err = f.Host.Do(func() (err error) { r, err = nft.OpenAttempts(rules.LogGroup); return err })
		return r, err
	}
	first, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if second, err := open(); err == nil {
		second.Close()
		t.Error("a second reader took the group")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	knockEach(t, f.Host, 0, 1)
	begun := time.Now()
	attempts, err := first.Read(ctx)
	if err != nil || len(attempts) != 1 {
		t.Fatalf("read %+v, %v", attempts, err)
	}
	if took := time.Since(begun); took > 200*time.Millisecond {
		t.Errorf("it took %s: the kernel kept it back", took)
	}
	if a := attempts[0]; !a.HasUID || a.UID != guardUID || a.Prefix != rules.PrefixOut || a.Forwarded {
		t.Errorf("read %+v", a)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	again, err := open()
	if err != nil {
		t.Fatalf("the group stays taken: %v", err)
	}
	again.Close()
}
