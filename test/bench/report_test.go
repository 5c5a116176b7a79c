package main

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/peer"
)

func TestChoose(t *testing.T) {
	all := []string{"a", "b", "c"}
	for list, want := range map[string]string{"all": "a b c", "c,a": "a c", "b": "b"} {
		got, err := choose("letter", list, all)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %q %v, want %q", list, got, err, want)
		}
	}
	if _, err := choose("letter", "a,x", all); err == nil || err.Error() != `no letter "x"; there are a, b, c` {
		t.Errorf("error %v", err)
	}
}

func TestDisturbance(t *testing.T) {
	busy, err := busyTime("cpu  10 1 20 1000 50 2 3 4 0 0\ncpu0 1\n")
	if err != nil || busy != 400*time.Millisecond {
		t.Errorf("busy for %v, %v", busy, err)
	}
	if _, err := busyTime("intr 1"); err == nil {
		t.Error("no error from another file")
	}
	begin := time.Unix(0, 0)
	before := meter{at: begin, all: time.Second, ours: time.Second}
	whole := time.Duration(runtime.NumCPU()) * time.Second
	after := meter{at: begin.Add(time.Second), all: time.Second + whole/2, ours: time.Second + whole/4}
	if got := disturbance(before, after); got != 0.25 {
		t.Errorf("others had %v, want a quarter", got)
	}
}

func TestMedian(t *testing.T) {
	for want, values := range map[float64][]float64{0: nil, 2: {3, 1, 2}, 1: {4, 1}, 5: {5}} {
		if got := median(values); got != want {
			t.Errorf("median of %v is %v, want %v", values, got, want)
		}
	}
}

func TestReportJudges(t *testing.T) {
	samples := []sample{
		{Peer: "direct", Rate: 1000, Share: 1, Messages: 10},
		{Peer: subject, Rate: 800, Share: 0.8, Messages: 10, P50: 2 * time.Millisecond, CPU: 20 * time.Millisecond},
		{Peer: "nginx", Rate: 240, Share: 0.24, Messages: 10, P50: time.Millisecond},
	}
	peers := []*peer.Running{{Name: "direct"}, {Name: subject, PID: 1}, {Name: "nginx", PID: 2, Note: "a note"}}
	goals := []goal{
		{figure: "share", atLeast: 0.75}, {figure: "share", atLeast: 0.81}, {figure: "p50", than: "nginx"},
		{figure: "share", than: "nginx"}, {figure: "share", than: "haproxy"},
		{figure: "share", atLeast: 0.2, of: "nginx"}, {figure: "share", atLeast: 3, of: "smtpwall-queue"},
	}
	var out strings.Builder
	report := newReport(&out)
	report.rates(table{scenario: "one", base: "direct"}, peers, samples, goals)
	var words []string
	for _, o := range report.outcomes {
		words = append(words, o.word())
	}
	if got := strings.Join(words, " "); got != "hit MISS MISS hit hit" { // haproxy and smtpwall-queue were not measured
		t.Errorf("outcomes: %s", got)
	}
	for _, want := range []string{"2.000", "nginx: a note", "share ≥ 0.81: MISS, measured 0.80"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, out.String())
		}
	}
}
