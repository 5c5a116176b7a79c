package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/farend"
	"github.com/smtpwall/smtpwall/test/bench/peer"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == farend.Argument {
		exit(farend.Serve(os.Args[2], os.Stdin, os.Stdout))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	opts, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if opts.image && os.Geteuid() == 0 && os.Getenv(ownMounts) == "" {
		exit(withOwnMounts())
	}
	exit(run(ctx, opts))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// options are the flags.
type options struct {
	scenarios []string
	peers     []string
	rounds    int
	quick     bool
	smtpwall  string
	dir       string
	image     bool // for the spools of custody's scenarios
	json      string
	keep      bool
	calm      float64 // per cent; 0: take what comes
	window    time.Duration
}

func parse(args []string) (options, error) {
	var opts options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	scenarioList := flags.String("scenario", "all", "scenarios, separated by commas")
	peerList := flags.String("peers", "all", "peers, separated by commas: "+strings.Join(peer.Names(), ", ")+"; direct is always run")
	flags.IntVar(&opts.rounds, "rounds", 5, "interleaved rounds; figures are medians of them")
	flags.BoolVar(&opts.quick, "quick", false, "one short round: to see that everything works, not to quote")
	flags.StringVar(&opts.smtpwall, "smtpwall", "bin/smtpwall", "the program to measure")
	flags.StringVar(&opts.dir, "dir", "/var/tmp", "where temporary directories are made, spools in them; on a disk")
	flags.BoolVar(&opts.image, "image", true, "queue, sync and drain: on an ext4 of their own, in an image there; else there as it is")
	flags.StringVar(&opts.json, "json", "", "write every sample to this file")
	flags.BoolVar(&opts.keep, "keep", false, "keep the temporary directory with configurations and output")
	flags.Float64Var(&opts.calm, "calm", 0, "repeat a measurement while others had more than so many `per cent` of the machine; 0 takes what comes")
	flags.DurationVar(&opts.window, "window", 0, "how long one measurement takes; 0: what suits the scenario")
	flags.Usage = func() { usage(flags) }
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if opts.quick {
		opts.rounds = 1
	}
	var err error
	if opts.scenarios, err = choose("scenario", *scenarioList, scenarioNames()); err != nil {
		return opts, err
	}
	opts.peers, err = choose("peer", *peerList, peer.Names())
	if err == nil && !slices.Contains(opts.peers, "direct") {
		opts.peers = append([]string{"direct"}, opts.peers...)
	}
	if err == nil && (flags.NArg() > 0 || opts.rounds < 1) {
		err = fmt.Errorf("arguments %q and -rounds %d make no sense", flags.Args(), opts.rounds)
	}
	return opts, err
}

// choose turns a list of names into those of all that it holds, in all's order.
func choose(what, list string, all []string) ([]string, error) {
	if list == "all" {
		return all, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("no %s %q; there are %s", what, name, strings.Join(all, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !slices.Contains(names, name) }), nil
}

func usage(flags *flag.FlagSet) {
	out := flags.Output()
	fmt.Fprint(out, `Measures smtpwall against other proxies and prints shares of the direct rate.

    make && sudo go run ./test/bench              everything, more than half an hour
    sudo go run ./test/bench -quick               everything once, to see it work
    sudo go run ./test/bench -scenario=plain-in,hundred -peers=smtpwall,haproxy

Everything happens on high ports of 127.0.0.1 and, for the scenario "host", in
network namespaces that it makes. Postfix and the namespaces need root. Every
message is compared by digest with what the relay recorded: one that is lost,
altered or duplicated fails the run. docs/performance.md explains the figures.

Scenarios:
`)
	for _, s := range scenarios() {
		fmt.Fprintf(out, "  %-14s %s\n", s.name, s.title)
	}
	fmt.Fprint(out, "\nFlags:\n")
	flags.PrintDefaults()
}

// run runs the chosen scenarios one after the other and sums up the targets.
func run(ctx context.Context, opts options) error {
	fmt.Printf("%s, %d CPUs, %s, %d rounds\n", kernel(), runtime.NumCPU(), runtime.Version(), opts.rounds)
	report := newReport(os.Stdout)
	var failures []error
	for _, s := range scenarios() {
		if !slices.Contains(opts.scenarios, s.name) {
			continue
		}
		fmt.Printf("\n%s: %s\n", s.name, s.title)
		if err := runScenario(ctx, s, opts, report); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", s.name, err))
			fmt.Println("  failed:", err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	report.summary()
	if opts.json != "" {
		failures = append(failures, report.save(opts.json))
	}
	return errors.Join(failures...)
}

func runScenario(ctx context.Context, s scenario, opts options, report *report) error {
	b, err := newBench(s, opts, report)
	if err != nil {
		return err
	}
	err = s.run(ctx, b)
	return errors.Join(err, b.close())
}

func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown kernel"
	}
	return "Linux " + strings.TrimSpace(string(text))
}
