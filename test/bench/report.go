package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/peer"
)

// subject is the peer that the goals are about.
const subject = "smtpwall"

// report prints tables as scenarios end and keeps what the summary needs.
type report struct {
	out      io.Writer
	outcomes []outcome
	samples  map[string][]sample
}

// outcome is one goal, held against what was measured.
type outcome struct {
	Scenario string
	Figure   string
	Got      string
	Target   string
	Hit      bool
}

func newReport(out io.Writer) *report { return &report{out: out, samples: make(map[string][]sample)} }

// median of the values; of an even number of them, the lower of the two.
func median[T int | int64 | float64 | time.Duration](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// figures are a peer's medians over the rounds.
type figures struct {
	rate, share, cpu, p50 float64 // messages/s, of direct, ms a message, ms
	low, high             float64 // lowest and highest share
	byCPU                 float64 // share by processor time of everybody
	messages              int
	disturbed             float64 // median share of the machine that others had
}

func summarise(name string, samples []sample) figures {
	var rates, shares, cpus, p50s, disturbed, byCPU []float64
	messages := 0
	for _, s := range samples {
		if s.Peer != name {
			continue
		}
		messages += s.Messages
		rates, shares = append(rates, s.Rate), append(shares, s.Share)
		cpus = append(cpus, milliseconds(s.CPU)/float64(max(1, s.Messages)))
		p50s, disturbed = append(p50s, milliseconds(s.P50)), append(disturbed, s.Disturbance)
		byCPU = append(byCPU, s.ByCPU)
	}
	if len(rates) == 0 {
		return figures{}
	}
	return figures{
		rate: median(rates), share: median(shares), cpu: median(cpus), p50: median(p50s),
		low: slices.Min(shares), high: slices.Max(shares), messages: messages,
		disturbed: median(disturbed), byCPU: median(byCPU),
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// table names what a table is about.
type table struct {
	scenario, title string
	unit            string // of the rate
	base            string // the peer whose rates shares are shares of
}

func (t table) name() string { return strings.TrimSpace(t.scenario + " " + t.title) }

func (t table) share() string {
	if t.base == "direct" {
		return "share"
	}
	return "× " + t.base
}

func (r *report) rates(t table, peers []*peer.Running, samples []sample, goals []goal) {
	r.samples[t.name()] = samples
	if t.title != "" {
		fmt.Fprintf(r.out, "%s\n", t.title)
	}
	table := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "peer\t%s\t%s\t(lowest–highest)\tby CPU\tCPU ms/message\tp50 ms\tmessages\tothers had\t\n", t.unit, t.share())
	for _, p := range peers {
		f := summarise(p.Name, samples)
		cpu := "–"
		if p.PID != 0 {
			cpu = fmt.Sprintf("%.3f", f.cpu)
		}
		fmt.Fprintf(table, "%s\t%.1f\t%.2f\t%.2f–%.2f\t%.2f\t%s\t%.2f\t%d\t%.0f %%\t\n",
			p.Name, f.rate, f.share, f.low, f.high, f.byCPU, cpu, f.p50, f.messages, 100*f.disturbed)
	}
	table.Flush()
	for _, p := range peers {
		if p.Note != "" {
			fmt.Fprintf(r.out, "  %s: %s\n", p.Name, p.Note)
		}
	}
	for _, g := range goals {
		r.judge(t, g, samples)
	}
}

// judge compares the figure with the goal, if what it needs was measured.
func (r *report) judge(t table, g goal, samples []sample) {
	got, limit := summarise(cmp.Or(g.of, subject), samples), summarise(g.than, samples)
	if got.messages == 0 || g.than != "" && limit.messages == 0 || g.figure == "share" && got.share == 0 {
		return
	}
	switch {
	case g.figure == "p50":
		r.add(outcome{t.name(), "p50", fmt.Sprintf("%.3f ms", got.p50), fmt.Sprintf("≤ %.3f ms (%s)", limit.p50, g.than), got.p50 <= limit.p50})
	case g.than != "":
		r.add(outcome{t.name(), "share", fmt.Sprintf("%.2f", got.share), fmt.Sprintf("≥ %.2f (%s)", limit.share, g.than), got.share >= limit.share})
	default:
		r.add(outcome{t.name(), t.share(), fmt.Sprintf("%.2f", got.share), fmt.Sprintf("≥ %.2f", g.atLeast), got.share >= g.atLeast})
	}
}

// add records an outcome and prints it.
func (r *report) add(o outcome) {
	r.outcomes = append(r.outcomes, o)
	fmt.Fprintf(r.out, "  target: %s %s: %s, measured %s\n", o.Figure, o.Target, o.word(), o.Got)
}

func (o outcome) word() string {
	if o.Hit {
		return "hit"
	}
	return "MISS"
}

// summary prints all targets.
func (r *report) summary() {
	if len(r.outcomes) == 0 {
		return
	}
	fmt.Fprintf(r.out, "\ntargets of %s\n", subject)
	table := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	for _, o := range r.outcomes {
		fmt.Fprintf(table, "%s\t%s\t%s\ttarget %s\t%s\n", o.Scenario, o.Figure, o.Got, o.Target, o.word())
	}
	table.Flush()
}

// save writes every sample and outcome as JSON; durations are nanoseconds.
func (r *report) save(path string) error {
	text, err := json.MarshalIndent(map[string]any{"samples": r.samples, "outcomes": r.outcomes}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
