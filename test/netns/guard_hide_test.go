package netns_test

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/rules"
)

// TestGuardTellsOthersWhileOneFillsTheSet: one user's scan must not make the
// attempts of another anonymous.
func TestGuardTellsOthersWhileOneFillsTheSet(t *testing.T) {
	bed := newGuardBed(t, nil)
	knockEach(t, bed.Host, 0, rules.RecordSize+1000)
	time.Sleep(2 * time.Second) // the log's limit gives room again, and tells nobody
	const others = 7
	for _, v6 := range []bool{false, true} {
		for range others {
			bed.dial(bed.Host, 34, guardMX(v6, 25))
		}
	}
	bed.events.await(t, 20*time.Second, "the other user's attempt", isOf(34)) // big sets are read seldom
	if err := bed.end(); err != nil {
		t.Fatal(err)
	}
	if sum, _ := bed.events.sum(isOf(34)); sum != 2*others {
		t.Errorf("%d attempts of uid 34, want %d", sum, 2*others)
	}
	for _, v6 := range []bool{false, true} { // the log knows where to
		if sum, _ := bed.events.sum(func(e audit.Event) bool { return isOf(34)(e) && e.Destination == guardMX(v6, 25) }); sum != others {
			t.Errorf("%d attempts of uid 34 at %s, want %d", sum, guardMX(v6, 25), others)
		}
	}
	all, _ := bed.events.sum(func(e audit.Event) bool { return e.Kind == audit.KindAttempt })
	if want := uint64(rules.RecordSize + 1000 + 2*others); all != want {
		t.Errorf("the events' counts sum up to %d, want %d", all, want)
	}
}

func isOf(uid uint32) func(audit.Event) bool {
	return func(e audit.Event) bool { return e.Kind == audit.KindAttempt && e.PeerUID == audit.KnownUID(uid) }
}

// TestGuardBoundsTheEventsOfForgedSources: a container that forges its sources
// fills neither the log nor hides the host's own attempts.
func TestGuardBoundsTheEventsOfForgedSources(t *testing.T) {
	const packets = 90_000
	bed := newGuardBed(t, nil)
	begun := time.Now()
	forge(t, bed, packets)
	bed.dial(bed.Host, 34, guardMX(true, 25))
	bed.events.await(t, 15*time.Second, "the host's attempt", isOf(34))
	if err := bed.end(); err != nil {
		t.Fatal(err)
	}
	windows := int(time.Since(begun)/(10*time.Second)) + 2
	sum, events := bed.events.sum(func(e audit.Event) bool { return e.Kind == audit.KindAttempt })
	folded, folds := bed.events.sum(func(e audit.Event) bool { return strings.HasPrefix(e.Reason, "forwarded from br0: ") })
	t.Logf("%d packets in %s, %d events, %d of which fold %d", packets, time.Since(begun).Round(time.Millisecond), events, folds, folded)
	if events > 220*windows {
		t.Errorf("%d events in %d windows", events, windows)
	}
	if folded < packets/2 {
		t.Errorf("%d of %d are told by their interface", folded, packets)
	}
	if sum != packets+1 {
		t.Errorf("the events' counts sum up to %d, want %d", sum, packets+1)
	}
}

// forge sends opening packets with sources that nobody has from the container.
func forge(t *testing.T, bed *guardBed, packets int) {
	t.Helper()
	if err := bed.Container.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for i := range packets {
			source := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			to := unix.SockaddrInet4{Addr: guardMX4.As4()}
			if err := unix.Sendto(fd, opening(source, guardMX(false, 25)), 0, &to); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// opening is a SYN in an IPv4 packet (RFC 791, RFC 9293), as far as a firewall
// looks. The kernel fills in length and checksum of the outer header.
func opening(from netip.Addr, to netip.AddrPort) []byte {
	const ipLength, tcpLength = 20, 20
	b := make([]byte, ipLength+tcpLength)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	tcp := b[ipLength:]
	binary.BigEndian.PutUint16(tcp, 40000)
	binary.BigEndian.PutUint16(tcp[2:], to.Port())
	tcp[12], tcp[13] = tcpLength/4<<4, 0x02
	return b
}
