package netns_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/rules/nft"
)

// leaks is a table of the remote that counts what gets there.
const leaks = `table inet leaks {
	counter leaked { }
	chain arriving {
		type filter hook prerouting priority -300
		tcp dport 25 counter name leaked drop
	}
}
`

// hammer connects to port 25 of the remote from two goroutines, one for each
// family, until stop is called; that returns how many connections were tried.
func (f *firewall) hammer() (stop func() (tries int)) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	var wg sync.WaitGroup
	counts := make([]int, 2)
	for i, v6 := range []bool{false, true} {
		wg.Go(func() { // ends with stop
			to := netip.AddrPortFrom(f.Remote.Addr(v6), 25)
			err := f.Host.Do(func() error { return hammerOne(ctx, to, &counts[i]) })
			if err != nil {
				f.t.Error(err)
			}
		})
	}
	return func() int {
		cancel()
		wg.Wait()
		return counts[0] + counts[1]
	}
}

// hammerOne counts refused connections and ends at any other outcome.
func hammerOne(ctx context.Context, to netip.AddrPort, count *int) error {
	for ctx.Err() == nil {
		fd, err := connectRaw(to)
		if err == nil {
			syscall.Close(fd)
		}
		if errors.Is(err, syscall.EINTR) {
			continue // by a signal of the Go runtime; the remote counts in any case
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("connecting to %s gave %v, want a reset", to, err)
		}
		*count++
	}
	return nil
}

// connectRaw connects with plain system calls, in a second at most: nothing
// else is fast enough.
func connectRaw(to netip.AddrPort) (fd int, err error) {
	family, addr := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if to.Addr().Is4() {
		family, addr = syscall.AF_INET, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	fd, err = syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &syscall.Timeval{Sec: 1})
	if err == nil {
		err = syscall.Connect(fd, addr)
	}
	if err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// closeWithReset leaves nothing behind that would wait for a minute.
func closeWithReset(fd int) {
	syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	syscall.Close(fd)
}

// checkLeaks: not one packet to port 25 got to the remote.
func (f *firewall) checkLeaks() {
	f.t.Helper()
	list := f.run(f.Remote, "", "nft", "list", "counter", "inet", "leaks", "leaked")
	if !strings.Contains(list, "packets 0 ") {
		f.t.Errorf("packets to port 25 got out:\n%s", list)
	}
}

func TestFirewallHammerWhileReplacing(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.load(f.Remote, leaks)
	f.apply(fwOptions())
	stop := f.hammer()
	began := time.Now()
	o := fwOptions()
	for i := range 1000 {
		o.Redirect[2525] = uint16(10000 + i)
		f.apply(o)
	}
	took := time.Since(began)
	t.Logf("1000 replacements in %s against %d connections", took, stop())
	f.checkLeaks()
}

// TestFirewallHammerPlainTable is the same without a lock behind it.
func TestFirewallHammerPlainTable(t *testing.T) {
	f := newFirewall(t, nft.Options{})
	f.load(f.Remote, leaks)
	f.apply(fwOptions())
	stop := f.hammer()
	o := fwOptions()
	for i := range 200 {
		o.Redirect[2525] = uint16(10000 + i)
		f.apply(o)
	}
	t.Logf("200 replacements against %d connections", stop())
	f.checkLeaks()
}

func TestFirewallHammerWhileFlushing(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.load(f.Remote, leaks)
	f.apply(fwOptions())
	changes := f.watch()
	stop := f.hammer()
	for range 100 {
		pid := f.nftPID("flush ruleset")
		if c := f.await(changes, "table inet smtpwall: missing"); c.PID != pid {
			t.Errorf("the flush was ascribed to %d (%s), want %d", c.PID, c.Process, pid)
		}
	}
	t.Logf("100 flushes against %d connections", stop())
	f.checkLeaks()
	f.checkWhole()
}
