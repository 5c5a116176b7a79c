package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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
)

// trackingRules stand for what Docker, ufw or firewalld load: they switch
// connection tracking on.
const trackingRules = `table inet other {
	chain input { type filter hook input priority 0; policy accept; ct state established,related accept; }
	chain forward { type filter hook forward priority 0; policy accept; ct state established,related accept; }
	chain output { type filter hook output priority 0; policy accept; ct state established,related accept; }
}
`

// network is a lab whose host may have rules of its own and ours.
type network struct {
	*lab.Lab
	tracking bool // connection tracking was on before
	ours     bool // smtpwall's rules are loaded
	target   netip.AddrPort
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
	for _, tracking := range []bool{true, false} {
		for _, ours := range []bool{false, true} {
			n, err := b.newNetwork(ctx, tracking, ours)
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
func (b *bench) newNetwork(ctx context.Context, tracking, ours bool) (*network, error) {
	inner, err := lab.New(lab.Options{Container: true})
	if err != nil {
		return nil, err
	}
	n := &network{Lab: inner, tracking: tracking, ours: ours}
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
	if n.tracking {
		command := n.Host.Command(ctx, "nft", "-f", "-")
		command.Stdin = strings.NewReader(trackingRules)
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
	output, err := n.Host.Command(ctx, b.env.Smtpwall, "firewall", "apply", "--config", config).CombinedOutput()
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
type traffic struct{ tracking, forwarded bool }

func kinds() []traffic {
	return []traffic{{true, false}, {true, true}, {false, false}, {false, true}}
}

// compareNetworks measures all networks in short windows, in turn, and prints
// the medians of the shares within each turn.
func (b *bench) compareNetworks(ctx context.Context, networks []*network) error {
	rates, shares := make(map[traffic][]float64), make(map[traffic][]float64)
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
			rates[kind], shares[kind] = append(rates[kind], without), append(shares[kind], with/without)
		}
		slices.Reverse(networks) // who comes first may matter
		if window%hostWindows == 0 {
			fmt.Fprint(b.report.out, ".")
		}
	}
	fmt.Fprintln(b.report.out)
	b.report.host(b.scenario, rates, shares)
	return nil
}

// comparePair measures one kind of traffic without our rules and with them.
func comparePair(ctx context.Context, networks []*network, kind traffic) (without, with float64, err error) {
	for _, n := range networks {
		if n.tracking != kind.tracking {
			continue
		}
		rate, err := n.connections(ctx, kind.forwarded)
		if err != nil {
			return 0, 0, err
		}
		if n.ours {
			with = rate
		} else {
			without = rate
		}
	}
	return without, with, nil
}

func (r *report) host(s scenario, rates, shares map[traffic][]float64) {
	table := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "connections\ttracking before\ta second, no rules\tshare with ours\t(middle half)\t")
	for _, kind := range kinds() {
		low, high := middleHalf(shares[kind])
		fmt.Fprintf(table, "%s\t%s\t%.0f\t%.3f\t%.3f–%.3f\t\n",
			direction(kind.forwarded), onOff(kind.tracking), median(rates[kind]), median(shares[kind]), low, high)
	}
	table.Flush()
	for _, forwarded := range []bool{false, true} {
		got := median(shares[traffic{true, forwarded}])
		r.add(outcome{s.name, direction(forwarded) + ", tracking on before", fmt.Sprintf("%.3f", got),
			fmt.Sprintf("≥ %.2f", hostLimit), got >= hostLimit})
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

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// connections measures connections a second for one window.
func (n *network) connections(ctx context.Context, forwarded bool) (float64, error) {
	from := n.Host
	if forwarded {
		from = n.Container
	}
	var made atomic.Int64
	begin := time.Now()
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
	return float64(made.Load()) / time.Since(begin).Seconds(), err
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
