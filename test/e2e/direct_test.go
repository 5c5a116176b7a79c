package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// attempts are what one client does to one destination.
type attempts struct {
	from  *lab.Namespace
	uid   uint32
	to    netip.AddrPort
	count int
	unit  *os.File   // its cgroup
	local netip.Addr // its own address, if that matters
}

// try is one of them, as the client saw it.
type try struct {
	Came string  `json:"came"`
	Took float64 `json:"ms"`
}

// dial lets a client of its own cgroup connect, and keeps it alive until done is
// called.
func (b *bed) dial(a attempts) (tries []try, pid int, done func()) {
	b.t.Helper()
	args := []string{b.script(b.t, "dial.py"), a.to.Addr().String(), fmt.Sprint(a.to.Port()), fmt.Sprint(a.count)}
	if a.local.IsValid() {
		args = append(args, a.local.String())
	}
	cmd := inCGroup(lab.AsUser(a.from.Command(b.t.Context(), python, args...), a.uid, a.uid), a.unit)
	stay, err := cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	client := launch(b.t, cmd)
	client.said.await(b.t, "\n", 1)
	if err := json.Unmarshal([]byte(client.said.String()), &tries); err != nil || len(tries) != a.count {
		b.t.Fatalf("the client says %v: %s", err, client.said)
	}
	return tries, client.cmd.Process.Pid, func() {
		_ = stay.Close()
		_ = client.awaitEnd(b.t)
	}
}

// checkRefused: at once. A busy machine may be slow now and then, but a client
// that waits for a retransmission is late each time.
func checkRefused(t testing.TB, tries []try) {
	t.Helper()
	quickest := 1e9
	for _, try := range tries {
		quickest = min(quickest, try.Took)
		if try.Came != "ECONNREFUSED" {
			t.Errorf("a direct connection came to %s, want ECONNREFUSED", try.Came)
		}
	}
	if quickest > 200 {
		t.Errorf("refused after %.0f ms at the earliest", quickest)
	}
}

// newUnit is the cgroup of a service.
func newUnit(t testing.TB) *os.File {
	t.Helper()
	return newCGroup(t, "e2e-"+randomWord()+".service")
}

// resident is a container with a process that stays.
type resident struct {
	id     string
	cgroup *os.File
	v4, v6 netip.Addr
}

// newResident makes the lab's container one of Docker's. Its addresses are its
// own: where several containers of a machine have the same address, as those of
// tests side by side have, nobody can tell whose a packet is.
func (b *bed) newResident() resident {
	b.t.Helper()
	r := resident{
		id: fmt.Sprintf("%064x", rand.Uint64()),
		v4: netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + rand.IntN(240))}),
		v6: netip.MustParseAddr(fmt.Sprintf("2001:db8:c::%x", 0x1000+rand.IntN(0xe000))),
	}
	for address, bits := range map[netip.Addr]int{r.v4: 24, r.v6: 64} {
		if err := b.Container.AddAddr(lab.ContainerIf, netip.PrefixFrom(address, bits)); err != nil {
			b.t.Fatal(err)
		}
	}
	r.cgroup = newCGroup(b.t, "docker-"+r.id+".scope")
	stays := inCGroup(b.Container.Command(b.t.Context(), "cat"), r.cgroup)
	if _, err := stays.StdinPipe(); err != nil {
		b.t.Fatal(err)
	}
	launch(b.t, stays)
	return r
}

func (r resident) addr(v6 bool) netip.Addr {
	if v6 {
		return r.v6
	}
	return r.v4
}

func destinations(port uint16, addresses ...netip.Addr) []netip.AddrPort {
	var all []netip.AddrPort
	for _, address := range addresses {
		all = append(all, netip.AddrPortFrom(address, port))
	}
	return all
}

// TestDirectToMX: nobody reaches port 25 outside, root and the proxy's own user
// included, and the audit log tells who tried.
func TestDirectToMX(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{container: true})
	const count = 4
	names := map[uint32]string{0: "root", siteUID: "www-data"}
	var all []attempts
	seen := 0
	for _, to := range destinations(25, mx4, mx6) {
		for _, uid := range []uint32{0, siteUID, 4321, proxyUID} {
			a := attempts{from: b.Host, uid: uid, to: to, count: count, unit: newUnit(t)}
			all = append(all, a)
			tries, pid, done := b.dial(a)
			checkRefused(t, tries)
			event := b.awaitEvent(t, fmt.Sprintf("uid %d at %s", uid, to), func(e audit.Event) bool {
				return e.Kind == audit.KindAttempt && e.Destination == to && e.PeerUID == audit.KnownUID(uid)
			})
			if event.PeerPID == pid && strings.Contains(event.PeerExe, "python") {
				seen++
			} else if event.PeerPID != 0 {
				t.Errorf("the event says pid %d, exe %s, want %d, python: %+v", event.PeerPID, event.PeerExe, pid, event)
			}
			done()
		}
	}
	if seen == 0 { // the search is given little time, so that a busy machine may not tell each
		t.Error("no event tells the process")
	}
	if err := b.run.end(syscall.SIGTERM); err != nil { // which tells what is gathered still
		t.Error(err)
	}
	events := b.events("--kind", "attempt")
	for _, a := range all {
		var total uint64
		for _, e := range events {
			if e.Destination != a.to || e.PeerUID != audit.KnownUID(a.uid) {
				continue
			}
			total += e.Count
			if e.Outcome != audit.OutcomeBlocked || e.Rule != "port25" || e.PeerUnit != filepath.Base(a.unit.Name()) || e.PeerUser != names[a.uid] {
				t.Errorf("uid %d in %s: the event says %+v", a.uid, a.unit.Name(), e)
			}
		}
		if total != count {
			t.Errorf("uid %d at %s: %d attempts are told, want %d", a.uid, a.to, total, count)
		}
	}
}

// TestContainerDirectToMX: the same for what is forwarded.
func TestContainerDirectToMX(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{container: true})
	const count = 3
	container := b.newResident()
	for _, to := range append(destinations(25, mx4, mx6), destinations(587, foreign4, foreign6)...) {
		local := container.addr(to.Addr().Is6())
		tries, _, done := b.dial(attempts{from: b.Container, to: to, count: count, unit: container.cgroup, local: local})
		checkRefused(t, tries)
		event := b.awaitEvent(t, "the container", func(e audit.Event) bool { return e.Destination == to })
		if event.PeerContainer != container.id || event.Outcome != audit.OutcomeBlocked || event.Source.Addr() != local {
			t.Errorf("the event says %+v", event)
		}
		if uid, known := event.PeerUID.Get(); known {
			t.Errorf("the event claims uid %d for a process that only the container's kernel knows", uid)
		}
		done()
	}
	if err := b.run.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	var total uint64
	for _, e := range b.events("--kind", "attempt", "--unit", container.id) {
		total += e.Count
	}
	if total != 4*count {
		t.Errorf("%d attempts are told, want %d", total, 4*count)
	}
}

// TestLocalPort25: an inbound mail server on this host is left alone.
func TestLocalPort25(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	for _, at := range destinations(25, netip.MustParseAddr("127.0.0.1"), b.Host.Addr4(), b.Host.Addr6()) {
		b.listen(b.Host, at)
		tries, _, done := b.dial(attempts{from: b.Host, uid: siteUID, to: at, count: 1, unit: newUnit(t)})
		done()
		if tries[0].Came != "connected" {
			t.Errorf("from inside %s is %s", at, tries[0].Came)
		}
		if at.Addr().IsLoopback() {
			continue
		}
		conn, err := b.Remote.Dial(t.Context(), at)
		if err != nil {
			t.Errorf("from outside: %v", err)
			continue
		}
		_ = conn.Close()
	}
	if events := b.events("--kind", "attempt"); len(events) > 0 {
		t.Errorf("attempts are told of: %+v", events)
	}
}

// listen accepts and closes connections at an address until the test ends.
func (b *bed) listen(where *lab.Namespace, at netip.AddrPort) {
	b.t.Helper()
	listener, err := where.Listen(at)
	if err != nil {
		b.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with the listener, below
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "220 outside\r\n")
			_ = conn.Close()
		}
	}()
	b.t.Cleanup(func() { _ = listener.Close(); <-ended })
}

// TestObserve: nothing is blocked or redirected, and all of it is told.
func TestObserve(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{mode: "observe", container: true})
	const count = 3
	container := b.newResident()
	var all []attempts
	for _, to := range append(destinations(25, mx4, mx6), destinations(587, foreign4, foreign6)...) {
		b.listen(b.Remote, to)
		all = append(all,
			attempts{from: b.Host, uid: siteUID, to: to, count: count, unit: newUnit(t)},
			attempts{from: b.Container, to: to, count: count, unit: container.cgroup, local: container.addr(to.Addr().Is6())})
	}
	for _, a := range all {
		tries, _, done := b.dial(a)
		for _, try := range tries {
			if try.Came != "connected" {
				t.Errorf("%s to %s: %s", a.from, a.to, try.Came)
			}
		}
		b.awaitEvent(t, a.unit.Name(), a.told)
		done()
	}
	if err := b.run.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	events := b.events("--kind", "attempt")
	for _, a := range all {
		want := audit.OutcomeWouldBlock
		if a.from == b.Host && a.to.Port() != 25 { // containers are not served yet
			want = audit.OutcomeWouldRedirect
		}
		var total uint64
		for _, e := range events {
			if !a.told(e) {
				continue
			}
			if total += e.Count; e.Outcome != want {
				t.Errorf("%s at %s: outcome %s, want %s", a.from, a.to, e.Outcome, want)
			}
		}
		if total != count {
			t.Errorf("%s at %s: %d attempts are told, want %d", a.from, a.to, total, count)
		}
	}
	if rules := b.ruleset(); strings.Contains(rules, "smtpwall") {
		t.Errorf("rules are left:\n%s", rules)
	}
}

// told says whether an event is about the attempts, by who made them. A
// container's cgroup is its unit too, but only the host's own sockets have one.
func (a attempts) told(e audit.Event) bool {
	if e.Destination != a.to {
		return false
	}
	if a.local.IsValid() {
		return e.PeerContainer != "" && strings.Contains(a.unit.Name(), e.PeerContainer)
	}
	return e.PeerUnit == filepath.Base(a.unit.Name()) && e.PeerUID == audit.KnownUID(a.uid)
}
