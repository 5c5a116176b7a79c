package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/peer"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// fakeKernel stands for the kernel: it records what it is told, in order, and
// fails as it is told.
type fakeKernel struct {
	mu      sync.Mutex
	calls   []string
	applied rules.Options
	relays  []netip.AddrPort // in force at the start
	allowed map[string][]netip.AddrPort
	placed  []placed
	moved   chan struct{} // control groups have
	open    []openSocket
	removed int
	fail    map[string]error // by call
	changes chan nft.Change
	logged  chan []nft.Attempt
	counted chan nft.Counts
	answers chan [][]byte
	events  []audit.Event
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{
		fail:    map[string]error{},
		changes: make(chan nft.Change),
		logged:  make(chan []nft.Attempt),
		counted: make(chan nft.Counts, 1),
		answers: make(chan [][]byte),
	}
}

// newGuard makes a guard with this kernel.
func (k *fakeKernel) newGuard(t testing.TB, o Options) *Guard {
	t.Helper()
	if o.Rules.ProxyUID == 0 {
		o.Rules = rules.Options{Mode: rules.Enforce, ProxyUID: proxyUID}
	}
	if o.Relays == nil {
		o.Relays = []Relay{{Name: "main", Host: "192.0.2.1", Ports: []uint16{587}}}
	}
	o.Audit = k
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	g.kernel = kernel{
		firewall: func(o nft.Options) (firewall, error) {
			if o.Lock {
				return k, k.call("open with lock")
			}
			if errors.Is(k.fail["apply"], nft.ErrLocked) {
				k.failing("apply", nil) // no lock is asked for
			}
			return k, k.call("open")
		},
		log:     func() (attemptLog, error) { return fakeLog{k}, k.call("open log") },
		sockets: func(peer.ProcessFinder) (socketOwners, error) { return fakeSockets{k}, k.call("open sockets") },
		cgroups: func() (cgroups, error) { return fakeTree{k}, k.call("open cgroups") },
		destroy: k.destroy,
		answers: func() (answerLog, error) { return fakeAnswers{k}, k.call("open answers") },
		counts:  func(context.Context) (attemptCounts, error) { return fakeCounts{k}, k.call("open counts") },
	}
	return g
}

func (k *fakeKernel) call(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, name)
	return k.fail[name]
}

func (k *fakeKernel) called(name string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, c := range k.calls {
		if c == name {
			n++
		}
	}
	return n
}

func (k *fakeKernel) failing(name string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail[name] = err
}

func (k *fakeKernel) Apply(_ context.Context, o rules.Options) error {
	if err := k.call("apply"); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.applied = o
	return nil
}

func (k *fakeKernel) SetRelays(_ context.Context, relays []netip.AddrPort) error {
	if err := k.call("set relays"); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.applied.Relays = relays
	return nil
}

func (k *fakeKernel) Remove(context.Context) error {
	k.mu.Lock()
	k.removed++
	busy := k.fail["first remove"]
	delete(k.fail, "first remove")
	k.mu.Unlock()
	return errors.Join(busy, k.call("remove"))
}

func (k *fakeKernel) Watch(ctx context.Context, report func(nft.Change)) error {
	if err := k.call("watch"); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c := <-k.changes:
			report(c)
		}
	}
}

func (k *fakeKernel) Status(context.Context, rules.Options) (nft.Status, error) {
	return nft.Status{Applied: true, Lock: nft.LockOurs}, k.call("status")
}

func (k *fakeKernel) Relays(context.Context) ([]netip.AddrPort, error) {
	return k.relays, k.call("relays")
}

func (k *fakeKernel) Allowed(context.Context) (map[string][]netip.AddrPort, error) {
	return k.allowed, k.call("allowed")
}

func (k *fakeKernel) destroy(_ context.Context, match func(openSocket) bool) (int, error) {
	err := k.call("destroy")
	k.mu.Lock()
	defer k.mu.Unlock()
	before := len(k.open)
	if err == nil {
		k.open = slices.DeleteFunc(k.open, match)
	}
	return before - len(k.open), err
}

// fakeTree has the control groups of the fake kernel.
type fakeTree struct{ kernel *fakeKernel }

func (t fakeTree) Look() ([]placed, error) {
	err := t.kernel.call("look")
	t.kernel.mu.Lock()
	defer t.kernel.mu.Unlock()
	return slices.Clone(t.kernel.placed), err
}

func (t fakeTree) Changed() <-chan struct{} { return t.kernel.moved }
func (t fakeTree) Close() error             { return t.kernel.call("close cgroups") }

func (k *fakeKernel) LockFile() (*os.File, error) { return os.Open(os.DevNull) }
func (k *fakeKernel) Close() error                { return k.call("close") }

func (k *fakeKernel) Write(e *audit.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, *e)
	return k.fail["audit"]
}

// audited are the events but those of modes.
func (k *fakeKernel) audited() []audit.Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(k.events), isMode)
}

// modes are the events of modes.
func (k *fakeKernel) modes() []audit.Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(k.events), func(e audit.Event) bool { return !isMode(e) })
}

func isMode(e audit.Event) bool { return e.Kind == audit.KindMode }

type fakeLog struct{ kernel *fakeKernel }

func (l fakeLog) Read(ctx context.Context) ([]nft.Attempt, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case a := <-l.kernel.logged:
		return a, nil
	}
}

func (l fakeLog) Lost() uint64 { return 3 }
func (l fakeLog) Close() error { return l.kernel.call("close log") }

type fakeAnswers struct{ kernel *fakeKernel }

func (a fakeAnswers) Read(ctx context.Context) ([][]byte, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case answers := <-a.kernel.answers:
		return answers, a.kernel.call("read answers")
	}
}

func (a fakeAnswers) Lost() uint64 { return 5 }
func (a fakeAnswers) Close() error { return a.kernel.call("close answers") }

type fakeCounts struct{ kernel *fakeKernel }

func (c fakeCounts) Read(context.Context) (nft.Counts, error) {
	err := c.kernel.call("read counts")
	select {
	case counts := <-c.kernel.counted:
		return counts, err
	default:
		return nft.Counts{}, err
	}
}

func (c fakeCounts) Close() error { return c.kernel.call("close counts") }

// fakeSockets knows one socket, that of uid 33 which comes from port 40033.
type fakeSockets struct{ kernel *fakeKernel }

func (s fakeSockets) Socket(src, _ netip.AddrPort) peer.Peer {
	return peer.Peer{Proven: src.Port() == 40033, UID: 33, PID: 4711, Exe: "/usr/bin/php"}
}

func (s fakeSockets) Close() error { return s.kernel.call("close sockets") }

// fakeProcesses knows who holds the socket of inode 7.
type fakeProcesses struct{}

func (fakeProcesses) Find(inode uint64, cgroup string, uid uint32) (pid int, exe string, ok bool) {
	return 42, fmt.Sprintf("/%d/%s/%d", inode, cgroup, uid), inode == 7
}
