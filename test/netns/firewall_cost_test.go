package netns_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// What a host has before us. Docker tracks connections and translates addresses;
// ufw and firewalld track; a plain host does neither.
const (
	plainHost   = ""
	trackedHost = `table inet tracking {
	chain tracked {
		type filter hook output priority 0
		ct state invalid counter
	}
}
`
	dockerHost = trackedHost + `table ip translating {
	chain translated {
		type nat hook postrouting priority 100
		ip saddr 172.17.0.0/16 masquerade
	}
}
`
)

// BenchmarkFirewallOthers measures what the rules cost connections that are no
// mail: connections for a second of processor time, as a share of those without
// rules, in rounds that take turns, because the machine is not ours alone.
//
//	go test ./test/netns -run '^$' -bench FirewallOthers -benchtime 1x
func BenchmarkFirewallOthers(b *testing.B) {
	observe := fwOptions()
	observe.Mode = rules.Observe
	reject := fwOptions()
	reject.SubmissionPorts = rules.RejectSubmission
	for _, host := range []struct{ name, tables string }{
		{"docker", dockerHost}, {"tracked", trackedHost}, {"plain", plainHost},
	} {
		for _, c := range []struct {
			name    string
			lock    bool
			options rules.Options
		}{
			{"redirect+lock", true, fwOptions()},
			{"reject+lock", true, reject},
			{"observe", false, observe},
			{"nothing", false, rules.Options{}},
		} {
			for _, from := range []string{"out", "forward"} {
				b.Run(host.name+"/"+c.name+"/"+from, func(b *testing.B) {
					bare, walled := newFirewall(b, nft.Options{}), newFirewall(b, nft.Options{Lock: c.lock})
					bare.load(bare.Host, host.tables)
					walled.load(walled.Host, host.tables)
					if c.options.ProxyUID != 0 {
						walled.apply(c.options)
					}
					for b.Loop() {
						compareCosts(b, bare, walled, from == "forward")
					}
				})
			}
		}
	}
}

const (
	costRounds      = 101
	costConnections = 300 // in each round, with and without rules
)

// compareCosts measures in two labs that differ in the rules only.
func compareCosts(b *testing.B, bare, walled *firewall, forward bool) {
	shares := make([]float64, costRounds)
	measure := make(map[*firewall]func() time.Duration)
	for _, f := range []*firewall{bare, walled} {
		ln := f.acceptAndReset(b)
		defer ln.Close()
		from := f.Host
		if forward {
			from = f.Container
		}
		to := netip.MustParseAddrPort(ln.Addr().String())
		measure[f] = func() time.Duration { return cost(b, from, to) }
	}
	for i := range shares {
		first := measure[bare]()
		with := measure[walled]() + measure[walled]()
		shares[i] = float64(first+measure[bare]()) / float64(with)
	}
	slices.Sort(shares)
	b.ReportMetric(shares[len(shares)/2], "share")
}

// acceptAndReset serves in the remote until the listener is closed.
func (f *firewall) acceptAndReset(b *testing.B) *net.TCPListener {
	ln, err := f.Remote.Listen(netip.AddrPortFrom(f.Remote.Addr4(), 0))
	if err != nil {
		b.Fatal(err)
	}
	go func() { // ends with the listener
		for {
			conn, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			conn.SetLinger(0)
			conn.Close()
		}
	}()
	return ln
}

// cost is the processor time, of both ends, of some connections that are opened
// and reset one after the other.
func cost(b *testing.B, from *lab.Namespace, to netip.AddrPort) time.Duration {
	began := processorTime(b)
	err := from.Do(func() error {
		for n := 0; n < costConnections; {
			fd, err := connectRaw(to)
			if errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.EINPROGRESS) {
				continue // a signal of the Go runtime; a full queue
			}
			if err == nil {
				closeWithReset(fd)
			} else if !errors.Is(err, syscall.ECONNRESET) { // the other end was faster
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return processorTime(b) - began
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
