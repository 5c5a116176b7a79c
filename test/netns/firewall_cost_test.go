package netns_test

import (
	"context"
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

// BenchmarkFirewallAnswers measures what copying costs each answer of a name
// server: exchanges for a second of processor time, as a share of those under the
// same rules without it. Nobody listens, or a reader does; of the answers, which
// come as fast as they can, it gets some in a hundred.
//
//	go test ./test/netns -run '^$' -bench FirewallAnswers -benchtime 1x
func BenchmarkFirewallAnswers(b *testing.B) {
	for _, c := range []struct {
		name   string
		listen bool
		note   bool
	}{{"unheard", false, true}, {"heard", true, true}, {"nothing", false, false}} {
		for _, from := range []string{"host", "container"} {
			b.Run(c.name+"/"+from, func(b *testing.B) {
				without, with := newFirewall(b, nft.Options{}), newFirewall(b, nft.Options{})
				o := fwOptions()
				o.DNSAnswers = false
				without.apply(o)
				o.DNSAnswers = c.note
				with.apply(o)
				if c.listen {
					with.readAnswers(b)
				}
				for b.Loop() {
					compareAnswers(b, without, with, from == "container")
				}
			})
		}
	}
}

// readAnswers reads, and drops, until the benchmark ends.
func (f *firewall) readAnswers(b *testing.B) {
	var answers *nft.AnswerReader
	err := f.Host.Do(func() (err error) {
		answers, err = nft.OpenAnswers(rules.AnswerGroup)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { // ends by cancel, below
		defer close(ended)
		for ctx.Err() == nil {
			answers.Read(ctx)
		}
	}()
	b.Cleanup(func() {
		cancel()
		<-ended
		answers.Close()
	})
}

func compareAnswers(b *testing.B, without, with *firewall, container bool) {
	measure := map[*firewall]func() time.Duration{}
	for _, f := range []*firewall{without, with} {
		from := f.Host
		if container {
			from = f.Container
		}
		ask := f.echo(b, from, netip.AddrPortFrom(f.Remote.Addr4(), 53))
		measure[f] = func() time.Duration { return askOften(b, ask) }
	}
	b.ReportMetric(median(func() float64 {
		first := measure[without]()
		both := measure[with]() + measure[with]()
		return float64(first+measure[without]()) / float64(both)
	}), "share")
}

// echo opens a socket towards another, in the remote.
func (f *firewall) echo(b *testing.B, from *lab.Namespace, at netip.AddrPort) (ask [2]int) {
	open := func(ns *lab.Namespace, port bool) (fd int) {
		err := ns.Do(func() (err error) {
			if fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			address := &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
			if port {
				return syscall.Bind(fd, address)
			}
			return syscall.Connect(fd, address)
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { syscall.Close(fd) })
		return fd
	}
	return [2]int{open(from, false), open(f.Remote, true)}
}

// askOften is the processor time of some exchanges, all in this thread.
func askOften(b *testing.B, ask [2]int) time.Duration {
	began := processorTime(b)
	buffer := make([]byte, 512)
	for range costExchanges {
		if _, err := syscall.Write(ask[0], buffer[:40]); err != nil {
			b.Fatal(err)
		}
		_, from, err := syscall.Recvfrom(ask[1], buffer, 0)
		if err == nil {
			err = syscall.Sendto(ask[1], buffer[:120], 0, from)
		}
		if err == nil {
			_, err = syscall.Read(ask[0], buffer)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	return processorTime(b) - began
}

// median of as many rounds as it takes.
func median(round func() float64) float64 {
	shares := make([]float64, costRounds)
	for i := range shares {
		shares[i] = round()
	}
	slices.Sort(shares)
	return shares[len(shares)/2]
}

const (
	costExchanges = 1000 // of a name server, in each round

	costRounds      = 101
	costConnections = 300 // in each round, with and without rules
)

// compareCosts measures in two labs that differ in the rules only.
func compareCosts(b *testing.B, bare, walled *firewall, forward bool) {
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
	b.ReportMetric(median(func() float64 {
		first := measure[bare]()
		with := measure[walled]() + measure[walled]()
		return float64(first+measure[bare]()) / float64(with)
	}), "share")
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
