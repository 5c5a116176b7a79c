package netns_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// Users of these tests: one that an entry is for, one of a group that an entry
// is for, and one that nothing is for.
const (
	allowedUID  = 2345
	groupUID    = 2346
	groupGID    = 12 // man, on every Debian
	strangerUID = 2347
)

const listener outcome = "listener"

// newAllowBed is a guard with entries, and our listeners on the host.
func newAllowBed(t *testing.T, allow ...guard.Allow) *guardBed {
	t.Helper()
	bed := newGuardBed(t, func(o *guard.Options) {
		o.Rules.Redirect = fwListenPorts
		o.Allow = allow
		o.State = t.TempDir()
	})
	serve(t, bed.Host, "listener", everywhere(465, 587, 12525)...)
	return bed
}

// answer lets the remote answer to all who come from now on.
func (b *guardBed) answer() {
	b.t.Helper()
	serve(b.t, b.Remote, "remote", everywhere(25, 465, 587, 2525)...)
}

// inMode switches the bed's guard.
func (b *guardBed) inMode(m rules.Mode) {
	b.t.Helper()
	err := error(nil)
	if m == rules.Enforce {
		err = b.client.Enforce(b.t.Context(), 0)
	} else {
		err = b.client.Observe(b.t.Context())
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *guardBed) allowStatus(i int) guard.AllowStatus {
	b.t.Helper()
	s, err := b.client.Status(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if !s.InForce {
		b.t.Errorf("the rules are not in force: %+v", s)
	}
	return s.Allow[i]
}

// dialGroup is dial as a user of a group.
func dialGroup(t *testing.T, ns *lab.Namespace, uid, gid uint32, to netip.AddrPort) outcome {
	t.Helper()
	answer := outcome("")
	err := ns.DoAs(uid, gid, func() error {
		conn, err := net.DialTimeout("tcp", to.String(), 2*time.Second)
		if errors.Is(err, syscall.ECONNREFUSED) {
			answer = reset
			return nil
		}
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(2 * time.Second))
		name, err := io.ReadAll(conn)
		answer = outcome(name)
		return err
	})
	if err != nil {
		t.Fatalf("uid %d, gid %d to %s: %v", uid, gid, to, err)
	}
	return answer
}

func TestGuardAllows(t *testing.T) {
	bed := newAllowBed(t,
		guard.Allow{UID: fmt.Sprint(allowedUID), Host: guardMX4.String(), Port: 587},
		guard.Allow{UID: fmt.Sprint(allowedUID), Host: guardMX6.String(), Port: 587},
		guard.Allow{UID: fmt.Sprint(allowedUID), Host: "203.0.113.0/25", Port: 25},
		guard.Allow{UID: fmt.Sprint(allowedUID), Host: "2001:db8:25::/48", Port: 25},
		guard.Allow{Group: "man", Host: "0.0.0.0/0", Port: 465},
		guard.Allow{Group: "man", Host: "::/0", Port: 465},
		// Nobody gets at the proxy's way, whatever is written.
		guard.Allow{UID: fmt.Sprint(fwProxy), Host: "0.0.0.0/0", Port: 25},
	)
	bed.answer()
	at := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
	for _, mx := range []netip.Addr{guardMX4, guardMX6} {
		for _, c := range []struct {
			uid, gid uint32
			port     uint16
			want     outcome
		}{
			{allowedUID, allowedUID, 587, "remote"}, {allowedUID, allowedUID, 25, "remote"},
			{allowedUID, allowedUID, 465, listener}, {allowedUID, allowedUID, 2525, listener},
			{groupUID, groupGID, 465, "remote"}, {groupUID, groupGID, 587, listener}, {groupUID, groupGID, 25, reset},
			{strangerUID, strangerUID, 587, listener}, {strangerUID, strangerUID, 465, listener}, {strangerUID, strangerUID, 25, reset},
			{0, 0, 587, listener}, {0, 0, 25, reset},
			{fwProxy, fwProxy, 25, reset}, {fwProxy, groupGID, 465, reset},
		} {
			if got := dialGroup(t, bed.Host, c.uid, c.gid, at(mx, c.port)); got != c.want {
				t.Errorf("uid %d, gid %d to %s: %s, want %s", c.uid, c.gid, at(mx, c.port), got, c.want)
			}
		}
	}
	relay := map[bool]netip.Addr{false: fwRelay4, true: fwRelay6} // other addresses of the remote
	for v6, to := range relay {
		if got := dial(t, bed.Host, allowedUID, at(to, 587)); got != listener {
			t.Errorf("v6 %v: another address: %s", v6, got)
		}
		if got := dial(t, bed.Host, allowedUID, at(to, 25)); got != reset {
			t.Errorf("v6 %v: another network: %s", v6, got)
		}
		bed.dial(bed.Container, allowedUID, guardMX(v6, 25)) // is forwarded, and nobody's
	}
	for i, want := range []uint64{1, 1, 1, 1, 1, 1, 0} {
		if s := bed.allowStatus(i); s.Count != want || (s.Error == "") != (i < 6) {
			t.Errorf("%s to %s counts %d, error %q; want %d", s.Who, s.Destination, s.Count, s.Error, want)
		}
	}
}

// The entries hold in observe mode too: what is left alone is no attempt.
func TestGuardAllowsWhatItObserves(t *testing.T) {
	bed := newAllowBed(t, guard.Allow{UID: fmt.Sprint(allowedUID), Host: "203.0.113.0/24", Port: 25})
	bed.answer()
	bed.inMode(rules.Observe)
	to := guardMX(false, 25)
	if got := dial(t, bed.Host, allowedUID, to); got != "remote" {
		t.Fatalf("got %s", got)
	}
	if got := dial(t, bed.Host, strangerUID, to); got != "remote" {
		t.Fatalf("got %s", got)
	}
	e := bed.events.await(t, 2*time.Second, "the attempt", isAttempt(to))
	if uid, _ := e.PeerUID.Get(); uid != strangerUID || e.Outcome != audit.OutcomeWouldBlock {
		t.Errorf("got %+v", e)
	}
	if err := bed.client.Suspend(t.Context(), []string{fmt.Sprintf("uid:%d", allowedUID)}); err != nil {
		t.Fatal(err)
	}
	if got := dial(t, bed.Host, allowedUID, to); got != "remote" { // observe mode blocks nothing
		t.Errorf("got %s", got)
	}
	bed.events.await(t, 2*time.Second, "the attempt of the suspended", func(e audit.Event) bool {
		uid, _ := e.PeerUID.Get()
		return isAttempt(to)(e) && uid == allowedUID
	})
	if s := bed.allowStatus(0); s.Count != 1 {
		t.Errorf("counted %d", s.Count)
	}
}

// What a process leaves to the kernel when it closes has no owner, and must
// arrive all the same.
func TestGuardLetsTheLastBytesOfAnAllowedConnectionPass(t *testing.T) {
	unit := fmt.Sprintf("smtpwall-last-%d.service", os.Getpid())
	cgroup := guardCGroup(t, unit)
	bed := newAllowBed(t,
		guard.Allow{UID: fmt.Sprint(allowedUID), Host: "203.0.113.0/24", Port: 2525},
		guard.Allow{UID: fmt.Sprint(allowedUID), Host: "2001:db8:25::/48", Port: 2525},
		guard.Allow{Unit: unit, Host: "203.0.113.0/24", Port: 587})
	const size = 4 << 20
	receive := func(addr netip.AddrPort) <-chan int64 {
		ln, err := bed.Remote.Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		received := make(chan int64, 1)
		go func() {
			conn, err := ln.Accept()
			if err != nil {
				received <- -1
				return
			}
			defer conn.Close()
			time.Sleep(50 * time.Millisecond) // so that the client has closed with most of it unsent
			n, _ := io.Copy(io.Discard, conn)
			received <- n
		}()
		return received
	}
	for _, v6 := range []bool{false, true} {
		to := guardMX(v6, 2525)
		received := receive(to)
		if err := bed.Host.DoAs(allowedUID, allowedUID, func() error {
			conn, err := net.Dial("tcp", to.String())
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write(make([]byte, size))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if n := <-received; n != size {
			t.Errorf("%s: %d octets of %d arrived", to, n, size)
		}
	}
	to := guardMX(false, 587)
	received := receive(to)
	cmd := bed.Host.Command(t.Context(), "bash", "-c", fmt.Sprintf("head -c %d /dev/zero >/dev/tcp/%s/587", size, to.Addr()))
	if out, err := runIn(cgroup, cmd); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n := <-received; n != size {
		t.Errorf("of the unit %d octets of %d arrived", n, size)
	}
}

// runIn runs a command in a control group to its end.
func runIn(cgroup *os.File, cmd *exec.Cmd) (string, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// whoAnswers dials from a process in a control group.
func whoAnswers(t *testing.T, bed *guardBed, cgroup *os.File, uid uint32, to netip.AddrPort) outcome {
	t.Helper()
	cmd := bed.Host.Command(t.Context(), "setpriv", fmt.Sprintf("--reuid=%d", uid), "--clear-groups", "bash", "-c",
		fmt.Sprintf("exec 9<>/dev/tcp/%s/%d && timeout 2 cat <&9", to.Addr(), to.Port()))
	out, err := runIn(cgroup, cmd)
	if strings.Contains(out, "Connection refused") {
		return reset
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return outcome(out)
}

// eventually waits for the guard to see what control groups have come or gone.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s, after 5 s", what)
		}
	}
}

func TestGuardAllowsAUnit(t *testing.T) {
	unit := fmt.Sprintf("smtpwall-mta-%d.service", os.Getpid())
	other := guardCGroup(t, fmt.Sprintf("smtpwall-other-%d.service", os.Getpid()))
	bed := newAllowBed(t, guard.Allow{Unit: unit, Host: "0.0.0.0/0", Port: 25}, guard.Allow{Unit: unit, Host: "::/0", Port: 587})
	bed.answer()
	if s := bed.allowStatus(0); s.Error != "the unit does not run" {
		t.Errorf("a unit that is not there: %q", s.Error)
	}
	to4, to6 := guardMX(false, 25), guardMX(true, 587)
	runs := func() bool { return bed.allowStatus(0).Error == "" }
	for range 2 { // a unit that is started anew has another control group
		func() {
			cgroup := openCGroup(t, unit)
			defer closeCGroup(t, cgroup)
			begun := time.Now()
			eventually(t, "the guard does not see the unit", runs)
			t.Logf("seen after %s", time.Since(begun).Round(time.Millisecond))
			for _, uid := range []uint32{0, strangerUID} {
				for _, to := range []netip.AddrPort{to4, to6} {
					if got := whoAnswers(t, bed, cgroup, uid, to); got != "remote" {
						t.Errorf("uid %d in the unit to %s: %s", uid, to, got)
					}
				}
			}
			if got := whoAnswers(t, bed, other, 0, to4); got != reset {
				t.Errorf("another unit: %s", got)
			}
			if got := whoAnswers(t, bed, other, 0, to6); got != listener {
				t.Errorf("another unit: %s", got)
			}
			if got := whoAnswers(t, bed, cgroup, fwProxy, to4); got != reset {
				t.Errorf("the proxy in the unit: %s", got)
			}
		}()
		eventually(t, "the guard does not see that the unit ended", func() bool { return !runs() })
	}
	if s := bed.allowStatus(0); s.Count != 4 {
		t.Errorf("counted %d", s.Count)
	}
}

// A container in the host's network can have any uid: it is none of the host's
// users.
func TestGuardAllowsNoContainerByItsUser(t *testing.T) {
	bed := newAllowBed(t, guard.Allow{UID: fmt.Sprint(allowedUID), Host: "0.0.0.0/0", Port: 25})
	bed.answer()
	unit := guardCGroup(t, fmt.Sprintf("smtpwall-site-%d.service", os.Getpid()))
	container := guardCGroup(t, "docker-"+strings.Repeat("fedcba9876543210", 4)+".scope")
	eventually(t, "the guard does not see the container", func() bool {
		s, err := bed.client.Status(t.Context())
		return err == nil && len(s.LeftAlone.Containers) > 0
	})
	to := guardMX(false, 25)
	if got := whoAnswers(t, bed, unit, allowedUID, to); got != "remote" {
		t.Errorf("the user in a unit: %s", got)
	}
	if got := whoAnswers(t, bed, container, allowedUID, to); got != reset {
		t.Errorf("the same uid in a container: %s", got)
	}
}

func TestGuardAllowsUntil(t *testing.T) {
	until := time.Now().Add(3 * time.Second)
	bed := newAllowBed(t, guard.Allow{UID: fmt.Sprint(allowedUID), Host: "0.0.0.0/0", Port: 2525, Until: until})
	held := holdOpen(t, bed, allowedUID, guardMX(false, 2525))
	bed.answer()
	if got := dial(t, bed.Host, allowedUID, guardMX(false, 2525)); got != "remote" {
		t.Errorf("before the time: %s", got)
	}
	time.Sleep(time.Until(until))
	eventually(t, "the entry still counts", func() bool { return bed.allowStatus(0).Error == "its time is over" })
	if got := dial(t, bed.Host, allowedUID, guardMX(false, 2525)); got != listener {
		t.Errorf("after the time: %s", got)
	}
	if err := held.ends(func() error { _, err := held.Write([]byte("x")); return err }); err == nil {
		t.Error("an open connection goes on")
	}
}

// heldConn is a connection to the remote that stays open. far is its other end.
type heldConn struct {
	net.Conn
	far net.Conn
}

// holdOpen connects to a port of the remote that nobody closes.
func holdOpen(t *testing.T, bed *guardBed, uid uint32, to netip.AddrPort) *heldConn {
	t.Helper()
	ln, err := bed.Remote.Listen(to)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := bed.Host.DialAs(t.Context(), uid, to)
	if err != nil {
		t.Fatal(err)
	}
	ln.SetDeadline(time.Now().Add(2 * time.Second))
	far, err := ln.Accept()
	if err != nil {
		t.Fatalf("uid %d did not reach %s: %v", uid, to, err)
	}
	t.Cleanup(func() { conn.Close(); far.Close() })
	return &heldConn{conn, far}
}

// ends tries something, again and again, until it fails, for two seconds.
func (c *heldConn) ends(try func() error) error {
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err := try(); err != nil {
			return err
		}
	}
	return nil
}

func TestGuardCutsTheConnectionsOfTheSuspended(t *testing.T) {
	unit := fmt.Sprintf("smtpwall-cut-%d.service", os.Getpid())
	cgroup := guardCGroup(t, unit)
	bed := newAllowBed(t,
		guard.Allow{UID: fmt.Sprint(allowedUID), Host: guardMX4.String(), Port: 25}, guard.Allow{UID: fmt.Sprint(allowedUID), Host: guardMX6.String(), Port: 25},
		guard.Allow{UID: fmt.Sprint(groupUID), Host: "0.0.0.0/0", Port: 25},
		guard.Allow{Unit: unit, Host: "0.0.0.0/0", Port: 465})
	suspended := []*heldConn{holdOpen(t, bed, allowedUID, guardMX(false, 25)), holdOpen(t, bed, allowedUID, guardMX(true, 25))}
	other := holdOpen(t, bed, groupUID, guardMX(false, 25))
	intercepted, err := bed.Host.DialAs(t.Context(), allowedUID, guardMX(false, 587)) // the proxy ends it
	if err != nil {
		t.Fatal(err)
	}
	defer intercepted.Close()
	inUnit := bed.Host.Command(t.Context(), "bash", "-c", fmt.Sprintf("exec 9<>/dev/tcp/%s/465; cat <&9 >/dev/null; read line", guardMX4))
	farOfUnit := arrival(t, bed, guardMX(false, 465), func() { startIn(t, cgroup, inUnit) })

	bed.answer()

	begun := time.Now()
	if err := bed.client.Suspend(t.Context(), []string{fmt.Sprintf("uid:%d", allowedUID), "unit:" + unit}); err != nil {
		t.Fatal(err)
	}
	for _, held := range suspended {
		held.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := held.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNABORTED) {
			t.Errorf("%s: reading gives %v", held.RemoteAddr(), err)
		}
		held.far.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := held.far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the other end's reading gives %v", held.RemoteAddr(), err)
		}
	}
	t.Logf("cut after %s", time.Since(begun).Round(time.Microsecond))
	farOfUnit.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, err := farOfUnit.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the unit's connection: the other end's reading gives %v", err)
	}
	for _, v6 := range []bool{false, true} {
		if got := dial(t, bed.Host, allowedUID, guardMX(v6, 25)); got != reset {
			t.Errorf("a new connection: %s", got)
		}
	}
	if got := whoAnswers(t, bed, cgroup, groupUID, guardMX(false, 25)); got != reset {
		t.Errorf("somebody who is allowed, in the suspended unit: %s", got)
	}
	if _, err := other.Write([]byte("x")); err != nil {
		t.Errorf("somebody else's connection: %v", err)
	}
	if _, err := other.far.Read(make([]byte, 1)); err != nil {
		t.Errorf("somebody else's connection, at the other end: %v", err)
	}
	intercepted.SetReadDeadline(time.Now().Add(2 * time.Second))
	if name, err := io.ReadAll(intercepted); err != nil || string(name) != "listener" {
		t.Errorf("the proxy has no time to say goodbye: %q, %v", name, err)
	}

	if err := bed.client.Suspend(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := dial(t, bed.Host, allowedUID, guardMX(false, 25)); got != "remote" {
		t.Errorf("after it was resumed: %s", got)
	}
}

// arrival returns the connection that arrives at the remote when something begun.
func arrival(t *testing.T, bed *guardBed, at netip.AddrPort, begin func()) net.Conn {
	t.Helper()
	ln, err := bed.Remote.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	begin()
	ln.SetDeadline(time.Now().Add(5 * time.Second))
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// A guard that is started anew lets connections go on that an earlier one
// allowed, and keeps those out who were suspended.
func TestGuardStartsAnewWithWhatWasAllowed(t *testing.T) {
	var options guard.Options
	bed := newGuardBed(t, func(o *guard.Options) {
		o.State = t.TempDir()
		o.Allow = []guard.Allow{
			{UID: fmt.Sprint(allowedUID), Host: "203.0.113.0/24", Port: 25},
			{UID: fmt.Sprint(groupUID), Host: "203.0.113.0/24", Port: 25},
		}
		options = *o
	})
	held := holdOpen(t, bed, allowedUID, guardMX(false, 25))
	serve(t, bed.Remote, "remote", everywhere(25)...)
	if err := bed.client.Suspend(t.Context(), []string{fmt.Sprintf("uid:%d", groupUID)}); err != nil {
		t.Fatal(err)
	}
	if err := bed.end(); err != nil {
		t.Fatal(err)
	}
	bed.start(options)
	for range 3 {
		if _, err := held.Write([]byte("x")); err != nil {
			t.Fatalf("an allowed connection over the restart: %v", err)
		}
		if _, err := held.far.Read(make([]byte, 1)); err != nil {
			t.Fatalf("an allowed connection over the restart, at the other end: %v", err)
		}
	}
	if got := dial(t, bed.Host, groupUID, guardMX(false, 25)); got != reset {
		t.Errorf("one who was suspended: %s", got)
	}
	if got := dial(t, bed.Host, allowedUID, guardMX(false, 25)); got != "remote" {
		t.Errorf("one who was allowed: %s", got)
	}
	if s := bed.allowStatus(0); s.Count != 2 {
		t.Errorf("counted %d over the restart", s.Count)
	}
}

// Without the plain table, the lock lets the same connections pass, and no more.
func TestLockAllowsTheSame(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	o := fwOptions()
	mx := netip.AddrPortFrom(f.Remote.Addr4(), 587)
	o.Allow = []rules.Allow{{
		Name: "one", Owner: rules.SKUID, ID: allowedUID, Port: 587, Networks: []netip.Prefix{netip.PrefixFrom(mx.Addr(), 24).Masked()},
	}}
	f.apply(o)
	serve(t, f.Remote, "remote", everywhere(25, 587)...)
	serve(t, f.Host, "listener", everywhere(587)...)
	f.nft("delete", "table", "inet", rules.Table) // and nobody watches
	for uid, want := range map[uint32]outcome{allowedUID: "remote", strangerUID: listener} {
		if got := dial(t, f.Host, uid, mx); got != want {
			t.Errorf("uid %d: %s, want %s", uid, got, want)
		}
	}
	if got := dial(t, f.Host, allowedUID, netip.AddrPortFrom(mx.Addr(), 25)); got != reset {
		t.Errorf("port 25: %s", got)
	}
}

// manyRanges are those of as many users as a guard suspends.
func manyRanges() []rules.UIDRange {
	all := make([]rules.UIDRange, guard.MaxSuspended)
	for i := range all {
		all[i] = rules.UIDRange{First: uint32(100_000 + 20*i), Last: uint32(100_000 + 20*i + 10)}
	}
	return all
}

// An entry for a group lets the uids of a suspended range through no more, and
// ranges come, go and overlap with those of before.
func TestFirewallKeepsSuspendedRangesOut(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	o := fwOptions()
	mx := netip.AddrPortFrom(f.Remote.Addr4(), 25)
	o.Allow = []rules.Allow{{
		Name: "site", Owner: rules.SKGID, ID: groupGID, Port: 25, Networks: []netip.Prefix{netip.PrefixFrom(mx.Addr(), 24).Masked()},
	}}
	serve(t, f.Remote, "remote", everywhere(25)...)
	probe := []uint32{1, allowedUID, 99999, 100000, 120000, 165535, 165536, 231071, 231072, 300000, 4294967290, 4294967294}
	for _, ranges := range [][]rules.UIDRange{
		nil,
		{{First: 100000, Last: 165535}},
		{{First: 100000, Last: 231071}},
		{{First: 120000, Last: 120000}, {First: 165536, Last: 231071}},
		{{First: 99999, Last: 100000}, {First: 300000, Last: 4294967294}},
		{{First: 1, Last: 4294967294}},
		manyRanges(),
		nil,
	} {
		o.Suspended.Ranges = ranges
		f.apply(o)
		f.checkLoad(o)
		for _, uid := range probe {
			want := outcome("remote")
			for _, r := range ranges {
				if r.First <= uid && uid <= r.Last {
					want = reset
				}
			}
			if got := dialGroup(t, f.Host, uid, groupGID, mx); got != want {
				t.Errorf("%v: uid %d: %s, want %s", ranges, uid, got, want)
			}
		}
	}
	if status, err := f.conn.Status(t.Context(), o); err != nil || len(status.Drifts) > 0 {
		t.Errorf("%v, %v", status.Drifts, err)
	}
	o.Suspended.Ranges = []rules.UIDRange{{First: 100000, Last: 165535}}
	f.apply(o)
	f.nft("delete", "element", "inet", rules.Table, rules.SetSuspendedRange, "{ 100000-165535 }")
	status, err := f.conn.Status(t.Context(), o)
	if err != nil || len(status.Drifts) != 1 || status.Drifts[0].Detail != "100000-165535" {
		t.Errorf("a range that somebody took out: %v, %v", status.Drifts, err)
	}
	f.nft("add", "element", "inet", rules.Table, rules.SetSuspendedRange, "{ 5-9 }")
	f.apply(o)
	f.checkLoad(o)
}

// inOtherEtc runs this test once more, alone and with a file of /etc of its own.
// It returns true in that run.
func inOtherEtc(t *testing.T, file, content string) bool {
	t.Helper()
	const mark = "SMTPWALL_TEST_ETC"
	if os.Getenv(mark) != "" {
		return true
	}
	etc := filepath.Join(t.TempDir(), "etc")
	if out, err := exec.Command("cp", "-a", "/etc", etc).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(etc, file), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", `mount --bind "$1" /etc && exec "$0" -test.run "^$2\$" -test.timeout 60s`,
		os.Args[0], etc, t.Name())
	cmd.Env = append(os.Environ(), mark+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	return false
}

// A process with one of a suspended user's further uids, and a group that an entry
// is for, as newuidmap(1) makes it, is kept out and cut.
func TestGuardSuspendsSubordinates(t *testing.T) {
	if !inOtherEtc(t, "subuid", fmt.Sprintf("%d:100000:65536\n%d:165536:65536\n", allowedUID, strangerUID)) {
		return
	}
	bed := newAllowBed(t, guard.Allow{Group: "man", Host: "203.0.113.0/24", Port: 25})
	to := guardMX(false, 25)
	hold := func(uid uint32) (held *heldConn) {
		far := arrival(t, bed, to, func() {
			if err := bed.Host.DoAs(uid, groupGID, func() error {
				conn, err := net.Dial("tcp", to.String())
				held = &heldConn{Conn: conn}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		})
		t.Cleanup(func() { held.Close() })
		held.far = far
		return held
	}
	cut, other := hold(100_017), hold(165_536)
	bed.answer()
	if err := bed.client.Suspend(t.Context(), []string{fmt.Sprintf("uid:%d", allowedUID)}); err != nil {
		t.Fatal(err)
	}
	cut.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, err := cut.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("the connection of a subordinate uid: reading gives %v", err)
	}
	if _, err := other.Write([]byte("x")); err != nil {
		t.Errorf("somebody else's connection: %v", err)
	}
	if _, err := other.far.Read(make([]byte, 1)); err != nil {
		t.Errorf("somebody else's connection, at the other end: %v", err)
	}
	for uid, want := range map[uint32]outcome{
		allowedUID: reset, 100_000: reset, 165_535: reset, 99_999: "remote", 165_536: "remote", strangerUID: "remote",
	} {
		if got := dialGroup(t, bed.Host, uid, groupGID, to); got != want {
			t.Errorf("uid %d: %s, want %s", uid, got, want)
		}
	}
}
