package netns_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/rules"
)

func TestGuardTellsOfABlockedAttempt(t *testing.T) {
	bed := newGuardBed(t, nil)
	for i, uid := range []uint32{0, guardUID, fwProxy} {
		for _, v6 := range []bool{false, true} {
			to := guardMX(v6, 25)
			t.Run(fmt.Sprintf("uid %d to %s", uid, to), func(t *testing.T) {
				if i > 0 {
					to = guardMX(v6, []uint16{0, 587, 465}[i]) // each a kind of its own
				}
				begun := time.Now()
				bed.dial(bed.Host, uid, to)
				e := bed.events.await(t, time.Second, "the attempt", isAttempt(to))
				t.Logf("told after %s", time.Since(begun).Round(time.Millisecond))
				if got, known := e.PeerUID.Get(); !known || got != uid {
					t.Errorf("uid %v, want %d", e.PeerUID, uid)
				}
				if e.Outcome != audit.OutcomeBlocked || e.Count != 1 || e.Rule == "" {
					t.Errorf("outcome %q, count %d, rule %q", e.Outcome, e.Count, e.Rule)
				}
				if e.Source.Addr() != bed.Host.Addr(v6) || e.Source.Port() == 0 {
					t.Errorf("source %v, want a port of %v", e.Source, bed.Host.Addr(v6))
				}
				if want := map[uint32]string{0: "root"}[uid]; e.PeerUser != want {
					t.Errorf("user %q, want %q", e.PeerUser, want)
				}
			})
		}
	}
}

func TestGuardKnowsUnitAndProcess(t *testing.T) {
	bed := newGuardBed(t, nil)
	unit := fmt.Sprintf("smtpwall-test-%d.service", os.Getpid())
	cgroup := guardCGroup(t, unit)
	for _, v6 := range []bool{false, true} {
		t.Run(guardMX(v6, 25).Addr().String(), func(t *testing.T) {
			// One process and no child that might be found in its place.
			script := fmt.Sprintf("while read port; do true 9<>/dev/tcp/%s/$port; done 2>/dev/null", guardMX(v6, 25).Addr())
			cmd := bed.Host.Command(t.Context(), "bash", "-c", script)
			ports := startIn(t, cgroup, cmd)
			// The search for a process is bounded in time, so on a busy host it may
			// find nobody. Nobody is not somebody else.
			for _, port := range []uint16{25, 465, 587, 2525} {
				if _, err := fmt.Fprintln(ports, port); err != nil {
					t.Fatal(err)
				}
				e := bed.events.await(t, 5*time.Second, "the attempt", isAttempt(guardMX(v6, port)))
				if e.PeerUnit != unit || e.PeerUser != "root" {
					t.Errorf("unit %q and user %q, want %q and root", e.PeerUnit, e.PeerUser, unit)
				}
				if e.PeerPID == 0 && port != 2525 {
					time.Sleep(time.Second) // in which it may search again
					continue
				}
				if e.PeerPID != cmd.Process.Pid || !strings.HasSuffix(e.PeerExe, "/bash") {
					t.Errorf("pid %d and exe %q, want %d and bash", e.PeerPID, e.PeerExe, cmd.Process.Pid)
				}
				return
			}
		})
	}
}

func TestGuardKnowsTheContainerOfAForwardedAttempt(t *testing.T) {
	bed := newGuardBed(t, nil)
	id := strings.Repeat("0123456789abcdef", 4)
	cgroup := guardCGroup(t, "docker-"+id+".scope")
	startIn(t, cgroup, bed.Container.Command(t.Context(), "cat"))
	for _, v6 := range []bool{false, true} {
		to := guardMX(v6, 25)
		t.Run(to.String(), func(t *testing.T) {
			bed.dial(bed.Container, guardUID, to)
			e := bed.events.await(t, time.Second, "the attempt", isAttempt(to))
			if e.PeerContainer != id {
				t.Errorf("container %q, want %q", e.PeerContainer, id)
			}
			if _, known := e.PeerUID.Get(); known {
				t.Errorf("uid %v of a packet that has none here", e.PeerUID)
			}
			if e.Source.Addr() != bed.Container.Addr(v6) || e.Reason != "forwarded from br0" {
				t.Errorf("source %v, reason %q", e.Source, e.Reason)
			}
		})
	}
}

func TestGuardObserves(t *testing.T) {
	bed := newGuardBed(t, func(o *guard.Options) {
		o.Rules.Mode = rules.Observe
		o.Rules.Redirect = fwListenPorts
	})
	for port, want := range map[uint16]string{25: audit.OutcomeWouldBlock, 587: audit.OutcomeWouldRedirect} {
		to := guardMX(port == 587, port)
		serve(t, bed.Remote, "remote", to)
		conn, err := bed.Host.DialAs(t.Context(), guardUID, to)
		if err != nil {
			t.Fatalf("observe mode stops %s: %v", to, err)
		}
		defer conn.Close()
		e := bed.events.await(t, time.Second, "the attempt", isAttempt(to))
		if e.Outcome != want || e.Count != 1 {
			t.Errorf("%s: outcome %q, count %d, want %q, 1", to, e.Outcome, e.Count, want)
		}
		if e.PeerPID != os.Getpid() || e.PeerExe == "" {
			t.Errorf("%s: pid %d, exe %q, want this test, which holds the socket", to, e.PeerPID, e.PeerExe)
		}
	}
}

// TestGuardCountsAFlood sends more than the log and its buffer take.
func TestGuardCountsAFlood(t *testing.T) {
	const connects = 100_000
	bed := newGuardBed(t, nil)
	var spread []netip.AddrPort // every tenth goes somewhere else
	for i := range 250 {
		spread = append(spread, netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 112, byte(i)}), 25))
	}
	begun := time.Now()
	if err := bed.Host.DoAs(guardUID, guardUID, func() error {
		for i := range connects {
			to := guardMX(i%2 == 0, 25)
			if i%10 == 9 {
				to = spread[i/10%len(spread)]
			}
			if err := knock(to); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	flood := time.Since(begun)
	if err := bed.end(); err != nil { // which tells what is left
		t.Fatal(err)
	}
	sum, events := bed.events.sum(func(e audit.Event) bool { return e.Kind == audit.KindAttempt })
	counters := bed.nft("list", "counter", "inet", rules.Table, rules.CounterOut)
	t.Logf("%d connects in %s, %d events; %s", connects, flood.Round(time.Millisecond), events, counters)
	if !strings.Contains(counters, fmt.Sprintf("packets %d ", sum)) {
		t.Errorf("the events' counts sum up to %d, not to the kernel's", sum)
	}
	if sum != connects {
		t.Errorf("the events' counts sum up to %d, want %d", sum, connects)
	}
	if events > 60 {
		t.Errorf("%d events", events)
	}
}

// knock sends one opening packet, without waiting for what comes of it.
func knock(to netip.AddrPort) error {
	family, addr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if to.Addr().Is4() {
		family, addr = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, addr); err != nil && err != unix.EINPROGRESS && err != unix.ECONNREFUSED {
		return fmt.Errorf("connecting to %s: %w", to, err)
	}
	return nil
}
