package systemd_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// trap is port 25 of the other host: each connection that it sees is a leak.
type trap struct{ leaks atomic.Int64 }

func (tr *trap) serve(t *testing.T, l net.Listener) {
	t.Cleanup(func() { l.Close() })
	go func() { // ends when the listener closes
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			tr.leaks.Add(1)
			conn.Close()
		}
	}()
}

func (tr *trap) check(t *testing.T) {
	t.Helper()
	if n := tr.leaks.Swap(0); n != 0 {
		t.Errorf("%d connections reached port 25 outside", n)
	}
}

// hammer connects to port 25 from inside the machine's network, as root, by IPv4
// and IPv6 in turn, for as long as during runs. Each attempt must be refused.
func hammer(t *testing.T, m *machine, during func()) {
	t.Helper()
	var stop atomic.Bool
	var attempts int
	var problem error // the first one; more would say the same
	done := make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.Tick(time.Millisecond); !stop.Load() || attempts < 2; attempts++ {
			problem = cmp.Or(problem, attempt(m, []string{remote4, remote6}[attempts%2]))
			<-tick // leave the processor to the others
		}
	}()
	defer func() {
		stop.Store(true)
		<-done
		if problem != nil {
			t.Errorf("of %d attempts at port 25: %v", attempts, problem)
		}
	}()
	during()
}

// attempt returns an error unless port 25 of address refuses at once.
func attempt(m *machine, address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := m.net.Host.Dial(ctx, netip.AddrPortFrom(netip.MustParseAddr(address), 25))
	if err == nil {
		conn.Close()
		return fmt.Errorf("connected to %s", address)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s did not refuse at once: %w", address, err)
	}
	return nil
}
