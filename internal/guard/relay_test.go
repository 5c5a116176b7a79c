package guard

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// names answers look-ups as it is told.
type names struct {
	mu      sync.Mutex
	answers map[string][2]answer
	errs    map[string][2]error
	asked   map[string]int // questions for the first family
	hang    map[string]bool
}

func newNames() *names {
	return &names{answers: map[string][2]answer{}, errs: map[string][2]error{}, asked: map[string]int{}, hang: map[string]bool{}}
}

func (n *names) set(host string, ttl time.Duration, list ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := addrs(list...)
	n.answers[host] = [2]answer{{ofFamily(all, false), ttl}, {ofFamily(all, true), ttl}}
	n.errs[host] = [2]error{}
}

func (n *names) fail(host string, v4, v6 error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.errs[host] = [2]error{v4, v6}
}

func (n *names) questions(host string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[host]
}

func (n *names) lookup(ctx context.Context, host string, v6 bool) (answer, error) {
	n.mu.Lock()
	hang := n.hang[host]
	n.mu.Unlock()
	if hang {
		<-ctx.Done()
		return answer{}, ctx.Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if v6 {
		return n.answers[host][1], n.errs[host][1]
	}
	n.asked[host]++
	return n.answers[host][0], n.errs[host][0]
}

// relaySets are the kernel's.
type relaySets struct {
	mu     sync.Mutex
	now    []netip.AddrPort
	writes int
	err    error
}

func (s *relaySets) SetRelays(_ context.Context, relays []netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.err != nil {
		return s.err
	}
	s.now = relays
	return nil
}

func (s *relaySets) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func endpoints(list ...string) []netip.AddrPort {
	var all []netip.AddrPort
	for _, s := range list {
		all = append(all, netip.MustParseAddrPort(s))
	}
	return all
}

// keeperBed is a keeper that runs in a bubble of virtual time.
type keeperBed struct {
	*relayKeeper
	t     *testing.T
	names *names
	sets  *relaySets
}

func runKeeper(t *testing.T, relays []Relay, prepare func(*keeperBed), f func(*keeperBed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &keeperBed{t: t, names: newNames(), sets: &relaySets{}}
		b.relayKeeper = newRelayKeeper(zap.NewNop(), b.names.lookup, b.sets)
		b.configure(relays)
		prepare(b)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.run(ctx) }()
		synctest.Wait()
		f(b)
		cancel()
		<-ended
	})
}

func (b *keeperBed) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *keeperBed) inKernel(what string, want ...string) {
	b.t.Helper()
	b.sets.mu.Lock()
	defer b.sets.mu.Unlock()
	if !slices.Equal(b.sets.now, endpoints(want...)) {
		b.t.Errorf("%s: the kernel has %v, want %v", what, b.sets.now, want)
	}
}

func (b *keeperBed) current(what string, want ...string) {
	b.t.Helper()
	if got := b.status()[0].Addresses; !slices.Equal(got, endpoints(want...)) {
		b.t.Errorf("%s: the relay has %v, want %v", what, got, want)
	}
}

var mainRelay = []Relay{{Name: "main", Host: "relay.example.com", Ports: []uint16{587}}}

const relayHost = "relay.example.com"

func TestKeeperFollowsTheRecords(t *testing.T) {
	runKeeper(t, mainRelay, func(b *keeperBed) { b.names.set(relayHost, time.Minute, "192.0.2.1", "2001:db8::1") },
		func(b *keeperBed) {
			b.inKernel("at first", "192.0.2.1:587", "[2001:db8::1]:587")
			b.names.set(relayHost, time.Minute, "192.0.2.2")
			b.after(59 * time.Second)
			b.current("while the records live", "192.0.2.1:587", "[2001:db8::1]:587")
			b.after(2 * time.Second)
			b.current("when they have aged", "192.0.2.2:587")
			b.inKernel("in the grace", "192.0.2.1:587", "192.0.2.2:587", "[2001:db8::1]:587")
			b.after(Grace + sweepInterval)
			b.inKernel("after the grace", "192.0.2.2:587")
		})
}

func TestKeeperBoundsLifetimes(t *testing.T) {
	runKeeper(t, mainRelay, func(b *keeperBed) { b.names.set(relayHost, 0, "192.0.2.1") }, func(b *keeperBed) {
		b.after(time.Minute)
		if n := b.names.questions(relayHost); n < 12 || n > 14 {
			t.Errorf("asked %d times in a minute for records of no lifetime", n)
		}
		b.names.set(relayHost, 48*time.Hour, "192.0.2.1")
		b.after(minRefresh)
		before := b.names.questions(relayHost)
		b.after(3 * time.Hour)
		if n := b.names.questions(relayHost) - before; n != 3 {
			t.Errorf("asked %d times in three hours for records that live for two days", n)
		}
	})
}

func TestKeeperKeepsAddressesWhenALookupFails(t *testing.T) {
	runKeeper(t, mainRelay, func(b *keeperBed) { b.names.set(relayHost, time.Minute, "192.0.2.1", "2001:db8::1") },
		func(b *keeperBed) {
			b.names.fail(relayHost, errNoServer, errNoSuchHost)
			b.after(24 * time.Hour)
			b.current("after a day without an answer", "192.0.2.1:587", "[2001:db8::1]:587")
			b.inKernel("after a day without an answer", "192.0.2.1:587", "[2001:db8::1]:587")
			if s := b.status()[0]; s.Error == "" || time.Since(s.Resolved) < 23*time.Hour {
				t.Errorf("status %+v", s)
			}
			b.names.set(relayHost, time.Minute) // no address at all: not believed
			b.after(2 * maxRetry)
			b.current("after an empty answer", "192.0.2.1:587", "[2001:db8::1]:587")
			b.names.set(relayHost, time.Minute, "192.0.2.3")
			b.after(maxRetry)
			b.current("after a good answer", "192.0.2.3:587")
			if s := b.status()[0]; s.Error != "" {
				t.Errorf("status %+v", s)
			}
		})
}

func TestKeeperOneFamilyFails(t *testing.T) {
	runKeeper(t, mainRelay, func(b *keeperBed) { b.names.set(relayHost, time.Minute, "192.0.2.1", "2001:db8::1") },
		func(b *keeperBed) {
			b.names.set(relayHost, time.Minute, "192.0.2.2", "2001:db8::2")
			b.names.fail(relayHost, nil, errNoServer)
			b.after(61 * time.Second)
			b.current("with half an answer", "192.0.2.2:587", "[2001:db8::1]:587")
		})
}

func TestKeeperTriesAgainSoonAfterBoot(t *testing.T) {
	relays := append([]Relay{{Name: "literal", Host: "2001:db8::5", Ports: []uint16{465, 587}}}, mainRelay...)
	prepare := func(b *keeperBed) {
		b.adopt(endpoints("192.0.2.9:587"))
		b.names.fail(relayHost, errNoServer, errNoServer)
	}
	runKeeper(t, relays, prepare, func(b *keeperBed) {
		b.inKernel("without name servers", "192.0.2.9:587", "[2001:db8::5]:465", "[2001:db8::5]:587")
		b.after(24 * time.Hour)
		b.inKernel("a day later", "192.0.2.9:587", "[2001:db8::5]:465", "[2001:db8::5]:587")
		b.names.set(relayHost, time.Hour, "192.0.2.1")
		b.after(maxRetry)
		b.inKernel("resolved, the adopted address past its grace", "192.0.2.1:587", "[2001:db8::5]:465", "[2001:db8::5]:587")
	})
	runKeeper(t, mainRelay, prepare, func(b *keeperBed) {
		b.names.set(relayHost, time.Hour, "192.0.2.1")
		b.after(minRetry)
		b.current("a second after boot", "192.0.2.1:587")
	})
}

func TestKeeperAHangingNameDelaysNoOther(t *testing.T) {
	relays := append([]Relay{{Name: "a", Host: "hangs.example.com", Ports: []uint16{587}}}, mainRelay...)
	runKeeper(t, relays, func(b *keeperBed) {
		b.names.hang["hangs.example.com"] = true
		b.names.set(relayHost, time.Minute, "192.0.2.1")
	}, func(b *keeperBed) {
		b.inKernel("at once", "192.0.2.1:587")
		b.after(lookupTimeout + time.Second)
		if s := b.status()[0]; s.Name != "a" || s.Error == "" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestLookupBothSurvivesAPanic(t *testing.T) {
	_, errs := lookupBoth(t.Context(), func(context.Context, string, bool) (answer, error) { panic("out of range") }, relayHost)
	if errs[0] == nil || errs[1] == nil {
		t.Errorf("got %v", errs)
	}
}

func TestKeeperConfigure(t *testing.T) {
	runKeeper(t, mainRelay, func(b *keeperBed) { b.names.set(relayHost, time.Minute, "192.0.2.1") }, func(b *keeperBed) {
		b.names.fail(relayHost, errNoServer, errNoServer)
		b.names.set("other.example.com", time.Minute, "192.0.2.7")
		b.configure([]Relay{{Name: "main", Host: relayHost, Ports: []uint16{465}}, {Name: "other", Host: "other.example.com", Ports: []uint16{25}}})
		b.after(0)
		b.current("the same host on another port, without an answer", "192.0.2.1:465")
		b.inKernel("with both", "192.0.2.1:465", "192.0.2.1:587", "192.0.2.7:25")
		b.configure(nil)
		b.after(Grace + sweepInterval)
		b.inKernel("without any, after the grace")
	})
}

func TestKeeperTriesAgainWhenTheKernelRefuses(t *testing.T) {
	runKeeper(t, mainRelay, func(b *keeperBed) {
		b.sets.err = errors.New("no memory")
		b.names.set(relayHost, time.Hour, "192.0.2.1")
	}, func(b *keeperBed) {
		b.current("what is not in the kernel is not to be used")
		b.sets.fail(nil)
		b.after(sweepInterval)
		b.current("later", "192.0.2.1:587")
		writes := b.sets.writes
		b.after(30 * time.Minute)
		if b.sets.writes != writes {
			t.Errorf("written %d times more without a change", b.sets.writes-writes)
		}
	})
}

func TestKeeperBoundsTheAddresses(t *testing.T) {
	k := newRelayKeeper(zap.NewNop(), nil, nil)
	var many []netip.AddrPort
	for i := range 2 * maxRelayAddresses {
		many = append(many, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 587))
	}
	k.adopt(many)
	if n := len(k.addresses()); n != maxRelayAddresses {
		t.Errorf("%d addresses, want %d", n, maxRelayAddresses)
	}
}
