package lookup

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var address = netip.MustParseAddr("192.0.2.25")

func TestNewestFirst(t *testing.T) {
	table := New(Options{})
	for i, name := range []string{"a.example.", "b.example.", "c.example.", "A.example."} {
		note(t, table, simple(t, name, "192.0.2.25"), start.Add(time.Duration(i)*time.Second))
	}
	want := []string{"a.example", "c.example", "b.example"}
	for _, form := range []netip.Addr{address, netip.AddrFrom16(address.As16())} {
		if got := table.Names(form, start); !slices.Equal(got, want) {
			t.Errorf("names %q, want %q", got, want)
		}
	}
	table.Names(address, start)[0] = "changed"
	if got := table.Names(address, start); got[0] != "a.example" {
		t.Error("the caller changed the table")
	}
	if got := table.Names(netip.MustParseAddr("192.0.2.26"), start); got != nil {
		t.Errorf("another address has the names %q", got)
	}
	if got := table.Names(netip.Addr{}, start); got != nil {
		t.Errorf("no address has the names %q", got)
	}
}

// TestShorterAgain: an answer from a cache, whose TTL has run down, does not take from what was known.
func TestShorterAgain(t *testing.T) {
	table := New(Options{})
	note(t, table, asking("a.example.", a).address("a.example.", "192.0.2.25", 7200).pack(t), start)
	note(t, table, asking("a.example.", a).address("a.example.", "192.0.2.25", 1).pack(t), start.Add(time.Second))
	if got := table.Names(address, start.Add(time.Hour)); len(got) != 1 {
		t.Error("forgotten too early")
	}
}

// TestFloodOfNames floods one address, with names noted once and over and over, and looks for those in use.
func TestFloodOfNames(t *testing.T) {
	table := New(Options{})
	now := start
	use := []string{"smtp.example.com", "mail.example.org"}
	for range 3 {
		for _, name := range use {
			note(t, table, simple(t, name+".", "192.0.2.25"), now)
		}
		now = now.Add(2 * time.Minute)
	}
	for i := range 10_000 {
		message := simple(t, fmt.Sprintf("n%d.flood.example.", i), "192.0.2.25")
		note(t, table, message, now)
		note(t, table, message, now.Add(time.Millisecond))
		now = now.Add(10 * time.Millisecond)
	}
	got := table.Names(address, now)
	if len(got) != DefaultNamesPerAddress {
		t.Errorf("%d names, want %d", len(got), DefaultNamesPerAddress)
	}
	for _, name := range use {
		if !slices.Contains(got, name) {
			t.Errorf("%s was pushed out; left are %q", name, got)
		}
	}

	// What nobody could foresee, a name that was never seen before, is there unless eight others come in between.
	note(t, table, simple(t, "new.example.", "192.0.2.25"), now)
	for i := range DefaultNamesPerAddress/2 - 1 {
		note(t, table, simple(t, fmt.Sprintf("m%d.flood.example.", i), "192.0.2.25"), now)
	}
	if got := table.Names(address, now); !slices.Contains(got, "new.example") {
		t.Errorf("the name looked up a moment before was pushed out; left are %q", got)
	}
}

// TestUseGivesWay: what was in use keeps no slot when its time is over.
func TestUseGivesWay(t *testing.T) {
	table := New(Options{NamesPerAddress: 2})
	for i := range 5 {
		note(t, table, simple(t, "old.example.", "192.0.2.25"), start.Add(time.Duration(i)*2*time.Minute))
	}
	later := start.Add(time.Hour)
	for _, name := range []string{"a.example.", "b.example."} {
		note(t, table, simple(t, name, "192.0.2.25"), later)
	}
	if got := table.Names(address, later); !slices.Equal(got, []string{"b.example", "a.example"}) {
		t.Errorf("names %q", got)
	}
}

// sweep notes n addresses, each with a name of its own.
func sweep(t testing.TB, table *Table, n int, times int, now time.Time) {
	t.Helper()
	message := simple(t, "aaaaaaaaaaaaaaaa.flood.example.", "2001:db8::1")
	for i := range n {
		copy(message[13:], fmt.Sprintf("%016d", i))
		copy(message[len(message)-4:], []byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
		for range times {
			note(t, table, message, now)
		}
	}
}

func TestFloodOfAddresses(t *testing.T) {
	table := New(Options{})
	inUse, dialled, seen := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	for i := range 2 {
		note(t, table, simple(t, "in-use.example.", inUse.String()), start.Add(time.Duration(i)*2*time.Minute))
	}
	now := start.Add(2 * time.Minute)
	note(t, table, simple(t, "dialled.example.", dialled.String()), now)
	note(t, table, simple(t, "seen.example.", seen.String()), now)
	if len(table.Names(dialled, now)) != 1 {
		t.Fatal("not noted")
	}
	sweep(t, table, 3*DefaultAddresses, 2, now)
	if n := table.once.Len() + table.proven.Len(); n > DefaultAddresses {
		t.Errorf("%d addresses, want at most %d", n, DefaultAddresses)
	}
	for _, kept := range []netip.Addr{inUse, dialled} {
		if len(table.Names(kept, now)) != 1 {
			t.Errorf("%s was pushed out", kept)
		}
	}
	if len(table.Names(seen, now)) != 0 {
		t.Error("what was noted once has outlived the flood: the table has not taken it in")
	}
}

// TestMemory fills the table with what takes the most, and with what is usual.
func TestMemory(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	long := strings.Repeat("a", 63)
	longest := strings.Join([]string{"aaaaaaaa", long, long, long, strings.Repeat("b", 52)}, ".") + "."
	if len(longest) != maxName+1 {
		t.Fatalf("the longest name is %d long", len(longest))
	}
	worst := func(table *Table) {
		message := simple(t, longest, "192.0.2.25")
		now := start
		for i := range 10 * DefaultAddresses {
			copy(message[13:], fmt.Sprintf("%08d", i))
			address := i / DefaultNamesPerAddress
			copy(message[len(message)-4:], []byte{10, byte(address >> 16), byte(address >> 8), byte(address)})
			note(t, table, message, now)
		}
	}
	tests := []struct {
		name  string
		fill  func(*Table)
		limit int64
	}{
		{"usual", func(table *Table) { sweep(t, table, DefaultAddresses, 1, start) }, 8 << 20},
		{"worst", worst, 30 << 20},
	}
	for _, test := range tests {
		before := heap()
		table := New(Options{})
		test.fill(table)
		kept := heap() - before
		t.Logf("%s: %d addresses, %d names: %d KiB", test.name, table.once.Len()+table.proven.Len(), table.names, kept/1024)
		if kept > test.limit {
			t.Errorf("%s: %d KiB kept, want at most %d", test.name, kept/1024, test.limit/1024)
		}
		runtime.KeepAlive(table)
	}
}

func TestTinyTable(t *testing.T) {
	table := New(Options{Addresses: 1, NamesPerAddress: 1})
	for i := range 20 {
		note(t, table, simple(t, fmt.Sprintf("n%d.example.", i), fmt.Sprintf("192.0.2.%d", i/4)), start)
		if got := table.Names(netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i/4)), start); len(got) == 0 || got[0] != fmt.Sprintf("n%d.example", i) {
			t.Fatalf("after note %d: names %q", i, got)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	table := New(Options{Addresses: 64})
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 500 {
				now := start.Add(time.Duration(i) * time.Second)
				if err := table.Note(simple(t, fmt.Sprintf("n%d.example.", i%37), fmt.Sprintf("192.0.2.%d", (i+g)%100)), now); err != nil {
					t.Error(err)
				}
				table.Names(netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i%100)), now)
			}
		})
	}
	all.Wait()
	check(t, table)
}

// check holds the table to its bounds and to its own count.
func check(t testing.TB, table *Table) {
	t.Helper()
	addresses, names := 0, 0
	for _, known := range append(table.once.Values(), table.proven.Values()...) {
		addresses++
		names += len(known.names)
		if len(known.names) == 0 || len(known.names) > table.perAddress {
			t.Errorf("%d names of one address", len(known.names))
		}
	}
	if names != table.names || names > table.maxNames || addresses > table.addresses {
		t.Errorf("%d addresses and %d names, counted as %d; at most %d and %d", addresses, names, table.names, table.addresses, table.maxNames)
	}
}

// FuzzNote holds that no message makes the table panic or outgrow its bounds, and that what is noted is the question's
// name for an address that a client could dial.
func FuzzNote(f *testing.F) {
	f.Add(simple(f, "smtp.example.com.", "192.0.2.25"))
	f.Add(simple(f, "smtp.example.com.", "2001:db8::25"))
	f.Add(asking("a.example.", a).alias("a.example.", "b.example.", 1).address("b.example.", "127.0.0.1", 1<<31).address("b.example.", "192.0.2.1", 0).pack(f))
	f.Add(simple(f, "a b.example.", "192.0.2.25"))
	f.Add([]byte("\x00\x00\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	shared := New(Options{Addresses: 8, NamesPerAddress: 3})
	now := start
	f.Fuzz(func(t *testing.T, message []byte) {
		now = now.Add(time.Second)
		own := New(Options{})
		err := own.Note(message, now)
		if sharedErr := shared.Note(message, now); (err == nil) != (sharedErr == nil) {
			t.Fatalf("refused once: %v, %v", err, sharedErr)
		}
		check(t, own)
		check(t, shared)
		addresses := own.once.Keys()
		if err != nil && len(addresses) != 0 {
			t.Fatalf("%v was noted in spite of %v", addresses, err)
		}
		for _, address := range addresses {
			if address.IsLoopback() || address.IsUnspecified() || address.IsMulticast() || address.Is4In6() {
				t.Fatalf("%v was noted", address)
			}
			if got := own.Names(address, now); len(got) != 1 || got[0] != questionOf(t, message) {
				t.Fatalf("%q was noted for the question %q", got, questionOf(t, message))
			}
		}
	})
}

func questionOf(t *testing.T, message []byte) string {
	t.Helper()
	var p dnsmessage.Parser
	if _, err := p.Start(message); err != nil {
		t.Fatal(err)
	}
	question, err := p.Question()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(strings.ToLower(question.Name.String()), ".")
}
