package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/internal/lab"
)

// hostLimit is the share of connections a second that other traffic must keep
// where connection tracking was on before.
const hostLimit = 0.98

const (
	hostPort    = 8080 // of the remote: none of ours
	hostDialers = 2
	hostWindow  = 400 * time.Millisecond
	hostWindows = 8 // a round
	sourcePorts = "40000 44095"
	hostUID     = 65534 // the proxy's, which need not run
)

// before is what the host had before our rules came.
type before string

const (
	untracked before = "off"
	tracked   before = "on"
	natted    before = "on with NAT"
)

// trackingRules stand for what ufw loads: they switch connection tracking on.
const trackingRules = `table inet other {
	chain input { type filter hook input priority 0; policy accept; ct state established,related accept; }
	chain forward { type filter hook forward priority 0; policy accept; ct state established,related accept; }
	chain output { type filter hook output priority 0; policy accept; ct state established,related accept; }
}
`

// natRules stand for what Docker and firewalld load beside that. Every
// connection is then set up for translation, whether or not it is translated.
const natRules = `table inet other {
	chain prerouting { type nat hook prerouting priority -100; policy accept; fib daddr type local tcp dport 8888 redirect to :80; }
	chain postrouting { type nat hook postrouting priority 100; policy accept; ip saddr 172.17.0.0/16 masquerade; }
	chain nat { type nat hook output priority -100; policy accept; fib daddr type local tcp dport 8888 redirect to :80; }
}
`

func (b before) rules() string {
	switch b {
	case tracked:
		return trackingRules
	case natted:
		return trackingRules + natRules
	}
	return ""
}

// network is a lab whose host may have rules of its own and ours.
type network struct {
	*lab.Lab
	before before
	ours   bool // smtpwall's rules are loaded
	target netip.AddrPort
}

// runHost measures what the rules cost connections that have nothing to do with
// mail: from the host's own processes, and from a container through the host.
func runHost(ctx context.Context, b *bench) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	var networks []*network
	defer func() {
		for _, n := range networks {
			err = errors.Join(err, n.Close())
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	defer func() { // before the networks go, their servers end
		cancel()
		err = errors.Join(err, group.Wait())
	}()
	for _, before := range []before{tracked, natted, untracked} {
		for _, ours := range []bool{false, true} {
			n, err := b.newNetwork(ctx, before, ours)
			if err != nil {
				return err
			}
			networks = append(networks, n)
			group.Go(func() error { return n.serve(ctx) })
		}
	}
	return b.compareNetworks(ctx, networks)
}

// newNetwork builds a lab and loads its rules inside of it.
func (b *bench) newNetwork(ctx context.Context, before before, ours bool) (*network, error) {
	inner, err := lab.New(lab.Options{Container: true})
	if err != nil {
		return nil, err
	}
	n := &network{Lab: inner, before: before, ours: ours}
	n.target = netip.AddrPortFrom(n.Remote.Addr4(), hostPort)
	if err := n.load(ctx, b); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *network) load(ctx context.Context, b *bench) error {
	// Few source ports, so that tracked connections replace each other rather
	// than fill the table.
	for _, ns := range []*lab.Namespace{n.Host, n.Container} {
		if err := ns.Sysctl("ipv4/ip_local_port_range", sourcePorts); err != nil {
			return err
		}
	}
	if rules := n.before.rules(); rules != "" {
		command := n.Host.Command(ctx, "nft", "-f", "-")
		command.Stdin = strings.NewReader(rules)
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("loading other rules: %w: %s", err, output)
		}
	}
	if !n.ours {
		return nil
	}
	config := filepath.Join(b.dir, "firewall.toml")
	if err := os.WriteFile(config, []byte("mode = \"enforce\"\n"), 0o644); err != nil {
		return err
	}
	output, err := n.Host.Command(ctx, b.env.Smtpwall, "firewall", "apply", "--config", config, "--uid", strconv.Itoa(hostUID)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("smtpwall firewall apply: %w: %s", err, output)
	}
	return nil
}

// serve accepts and closes in the remote until the context ends.
func (n *network) serve(ctx context.Context) error {
	listener, err := n.Remote.Listen(n.target)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			conn.Close()
		}
	}
}

// traffic is one kind of connection to compare.
type traffic struct {
	before    before
	forwarded bool
}

func kinds() []traffic {
	var all []traffic
	for _, before := range []before{tracked, natted, untracked} {
		all = append(all, traffic{before, false}, traffic{before, true})
	}
	return all
}

// comparison is what the windows of one kind of traffic gave.
type comparison struct {
	rates  []float64 // connections a second without our rules
	shares []float64 // of that rate, with our rules
	cpu    []float64 // the same by processor time a connection
}

// compareNetworks measures all networks in short windows, in turn, and prints
// the medians of the shares within each turn.
func (b *bench) compareNetworks(ctx context.Context, networks []*network) error {
	results := make(map[traffic]*comparison)
	for _, kind := range kinds() {
		results[kind] = &comparison{}
	}
	windows := hostWindows * b.opts.rounds
	if b.opts.quick {
		windows = 3
	}
	for window := range windows {
		for _, kind := range kinds() {
			without, with, err := comparePair(ctx, networks, kind)
			if err != nil {
				return err
			}
			r := results[kind]
			r.rates = append(r.rates, without.rate)
			r.shares = append(r.shares, with.rate/without.rate)
			r.cpu = append(r.cpu, float64(without.cpu)/float64(with.cpu))
		}
		slices.Reverse(networks) // who comes first may matter
		if window%hostWindows == 0 {
			fmt.Fprint(b.report.out, ".")
		}
	}
	fmt.Fprintln(b.report.out)
	b.report.host(b.scenario, results)
	return nil
}

// pace is how fast connections are made.
type pace struct {
	rate float64       // a second
	cpu  time.Duration // of dialers and server together, for one connection
}

// comparePair measures one kind of traffic without our rules and with them.
func comparePair(ctx context.Context, networks []*network, kind traffic) (without, with pace, err error) {
	for _, n := range networks {
		if n.before != kind.before {
			continue
		}
		measured, err := n.connections(ctx, kind.forwarded)
		if err != nil {
			return pace{}, pace{}, err
		}
		if n.ours {
			with = measured
		} else {
			without = measured
		}
	}
	return without, with, nil
}

func (r *report) host(s scenario, results map[traffic]*comparison) {
	table := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "connections\ttracking before\ta second, no rules\tshare with ours\t(middle half)\tby CPU time\t(middle half)\t")
	for _, kind := range kinds() {
		c := results[kind]
		low, high := middleHalf(c.shares)
		cpuLow, cpuHigh := middleHalf(c.cpu)
		fmt.Fprintf(table, "%s\t%s\t%.0f\t%.3f\t%.3f–%.3f\t%.3f\t%.3f–%.3f\t\n", direction(kind.forwarded), kind.before,
			median(c.rates), median(c.shares), low, high, median(c.cpu), cpuLow, cpuHigh)
	}
	table.Flush()
	for _, kind := range kinds() {
		if kind.before == untracked {
			continue // a figure to know, not to reach
		}
		got := median(results[kind].shares)
		r.add(outcome{s.name, fmt.Sprintf("%s, tracking %s before", direction(kind.forwarded), kind.before),
			fmt.Sprintf("%.3f", got), fmt.Sprintf("≥ %.2f", hostLimit), got >= hostLimit})
	}
}

// middleHalf are the lower and the upper quartile.
func middleHalf(values []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/4], sorted[len(sorted)-1-len(sorted)/4]
}

func direction(forwarded bool) string {
	if forwarded {
		return "forwarded"
	}
	return "outgoing"
}

// connections measures connections a second for one window.
func (n *network) connections(ctx context.Context, forwarded bool) (pace, error) {
	from := n.Host
	if forwarded {
		from = n.Container
	}
	var made atomic.Int64
	begin, used := time.Now(), processTime()
	end := begin.Add(hostWindow)
	group, ctx := errgroup.WithContext(ctx)
	for range hostDialers {
		group.Go(func() error {
			return from.Do(func() error {
				for ctx.Err() == nil && time.Now().Before(end) {
					if err := connectAndReset(n.target); err != nil {
						return fmt.Errorf("connecting from %s: %w", from, err)
					}
					made.Add(1)
				}
				return nil
			})
		})
	}
	err := group.Wait()
	count := max(1, made.Load())
	return pace{rate: float64(count) / time.Since(begin).Seconds(), cpu: (processTime() - used) / time.Duration(count)}, err
}

// processTime is the processor time of this process, in which dialers and
// servers run and, on their account, the kernel's work for both ends.
func processTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// connectAndReset opens and resets a connection by bare system calls, so that
// as much as possible of what is measured is the kernel's way through the rules.
func connectAndReset(target netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return err
	}
	return unix.Connect(fd, &unix.SockaddrInet4{Addr: target.Addr().As4(), Port: int(target.Port())})
}
