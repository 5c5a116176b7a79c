package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/test/bench/peer"
)

// The scenario names: what is asked for, and by whom.
const (
	namesCount    = 10_000
	namesFlood    = 20_000 // of another user, beyond what one may have signed at once
	namesUID      = 1001
	namesFloodUID = 1002
	namesLimit    = 5 * time.Millisecond // a new name's whole handshake, p99
	namesMemory   = 64 * mebibyte        // resident, whatever was asked for
	namesPause    = 2 * time.Second      // before the memory is read
)

// elsewhere is the server that clients believe they reach; nobody is there.
var elsewhere = netip.MustParseAddrPort("203.0.113.80:465")

// interception is a smtpwall to which a lab's host redirects what it dials.
type interception struct {
	network *lab.Lab
	proxy   *localProxy
	roots   *x509.CertPool // the local CA
}

// runNames measures what names cost for which there is no certificate yet, one
// after the other, in the program itself: connections are redirected to it in a
// network namespace.
func runNames(ctx context.Context, b *bench) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	i, err := b.intercept(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.proxy.stop(), i.network.Close()) }()
	count, flood := namesCount, namesFlood
	if b.opts.quick {
		count, flood = count/20, flood/20
	}
	if _, err := b.ask(ctx, i, asking{uid: namesUID, prefix: "warm", count: 20}); err != nil {
		return fmt.Errorf("the first names: %w", err)
	}
	table := tabwriter.NewWriter(b.report.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "names\tcount\tunder their name\ttotal s\tp50 ms\tp99 ms\tlongest ms\tCPU µs each\tRSS MiB\theap MiB\tothers had\t")
	idle, err := i.proxy.footprint(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(table, "twenty\t\t\t\t\t\t\t\t%.1f\t%s\t\t\n", float64(idle.RSS)/mebibyte, idle.heap)
	var fresh, last answers
	for _, a := range []asking{
		{title: "new", uid: namesUID, prefix: "site", count: count},
		{title: "the same again", uid: namesUID, prefix: "site", count: count},
		{title: "of somebody else, without end", uid: namesFloodUID, prefix: "flood", count: flood},
	} {
		if last, err = b.askCalmly(ctx, i, a); err != nil {
			return fmt.Errorf("%s: %w", a.title, err)
		}
		if fresh.count == 0 {
			fresh = last
		}
		last.print(table, a.title)
	}
	table.Flush()
	b.report.names(b.scenario, fresh, last)
	return nil
}

func (r *report) names(s scenario, fresh, last answers) {
	r.add(outcome{s.name, "under their own name", fmt.Sprint(fresh.own), fmt.Sprint("all ", fresh.count), fresh.own == fresh.count})
	p99 := fresh.quantile(0.99)
	r.add(outcome{s.name, "a new name, p99", fmt.Sprintf("%.2f ms", milliseconds(p99)), fmt.Sprintf("< %.0f ms", milliseconds(namesLimit)), p99 < namesLimit})
	r.add(outcome{s.name, "memory after all", size(last.memory.RSS), "< " + size(namesMemory), last.memory.RSS < namesMemory})
}

// intercept builds the network, loads smtpwall's own rules in its host and starts
// smtpwall there.
func (b *bench) intercept(ctx context.Context) (*interception, error) {
	network, err := lab.New(lab.Options{RemoteAddrs: []netip.Addr{elsewhere.Addr()}})
	if err != nil {
		return nil, err
	}
	i := &interception{network: network}
	if i.proxy, err = b.startLocal(ctx, network.Host); err != nil {
		return nil, errors.Join(err, network.Close())
	}
	if i.roots, err = i.proxy.authority(); err != nil {
		return nil, errors.Join(err, i.proxy.stop(), network.Close())
	}
	return i, nil
}

// asking is a series of names that one user asks for.
type asking struct {
	title, prefix string
	uid           uint32
	count         int
}

// answers are what came of it.
type answers struct {
	count, own int // own: the certificate was for the name
	whole      time.Duration
	latencies  []time.Duration // connect to the end of the handshake, sorted
	cpu        time.Duration   // of the proxy
	memory     footprintNow
	disturbed  float64 // the share of the machine that others had meanwhile
}

// askCalmly begins when the machine is calm, if that was asked for. It cannot ask
// twice: the names would not be new.
func (b *bench) askCalmly(ctx context.Context, i *interception, a asking) (answers, error) {
	if b.opts.calm > 0 {
		if err := b.awaitCalm(ctx, time.Now().Add(patience)); err != nil {
			return answers{}, err
		}
	}
	return b.ask(ctx, i, a)
}

// ask opens one connection after the other, each under a name of its own.
func (b *bench) ask(ctx context.Context, i *interception, a asking) (answers, error) {
	got := answers{count: a.count}
	process := &peer.Running{Name: subject, PID: i.proxy.pid}
	before, err := b.meter(process)
	if err != nil {
		return got, err
	}
	for n := range a.count {
		took, own, err := i.handshake(ctx, a.uid, fmt.Sprintf("%s%05d.elsewhere.example", a.prefix, n))
		if err != nil {
			return got, err
		}
		got.latencies = append(got.latencies, took)
		if own {
			got.own++
		}
	}
	after, err := b.meter(process)
	if err != nil {
		return got, err
	}
	got.whole, got.cpu, got.disturbed = after.at.Sub(before.at), after.peer-before.peer, disturbance(before, after)
	slices.Sort(got.latencies)
	got.memory, err = i.proxy.footprint(ctx)
	return got, err
}

// handshake tells how long one took, and whether a client that trusts the local
// CA believes what it was shown.
func (i *interception) handshake(ctx context.Context, uid uint32, name string) (time.Duration, bool, error) {
	begin := time.Now()
	raw, err := i.network.Host.DialAs(ctx, uid, elsewhere)
	if err != nil {
		return 0, false, err
	}
	defer raw.Close()
	_ = raw.SetDeadline(begin.Add(time.Minute))
	conn := tls.Client(raw, &tls.Config{
		ServerName: name, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
		InsecureSkipVerify: true, // verified below, so that one that is refused is counted and not an error
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return 0, false, fmt.Errorf("handshake as %s: %w", name, err)
	}
	if _, err := conn.Read(make([]byte, 512)); err != nil { // the banner
		return 0, false, fmt.Errorf("greeting as %s: %w", name, err)
	}
	took := time.Since(begin)
	_, err = conn.ConnectionState().PeerCertificates[0].Verify(x509.VerifyOptions{Roots: i.roots, DNSName: name})
	return took, err == nil, conn.Close()
}

func (a answers) quantile(q float64) time.Duration {
	return a.latencies[min(len(a.latencies)-1, int(q*float64(len(a.latencies))))]
}

func (a answers) print(table *tabwriter.Writer, title string) {
	fmt.Fprintf(table, "%s\t%d\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%.1f\t%s\t%.0f %%\t\n", title, a.count, a.own, a.whole.Seconds(),
		milliseconds(a.quantile(0.5)), milliseconds(a.quantile(0.99)), milliseconds(a.quantile(1)),
		1000*milliseconds(a.cpu)/float64(a.count), float64(a.memory.RSS)/mebibyte, a.memory.heap, 100*a.disturbed)
}

// authority reads the local CA that the proxy has made.
func (p *localProxy) authority() (*x509.CertPool, error) {
	text, err := os.ReadFile(filepath.Join(p.dir, "state", "certs", "local-ca", "root.pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("the local CA's certificate cannot be read")
	}
	return pool, nil
}
