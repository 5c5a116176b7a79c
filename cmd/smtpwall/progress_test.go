package main

import (
	"bytes"
	"os"
	"testing"
	"time"
)

// clocked is a bar whose time the test makes.
func clocked(out *bytes.Buffer, width int) (*progress, func(time.Duration)) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	p := &progress{out: out, what: "dropping", width: width, now: func() time.Time { return now }, began: now}
	return p, func(d time.Duration) { now = now.Add(d) }
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p, pass := clocked(&out, 80)
	p.set(1, 200)
	pass(barDelay - time.Millisecond)
	p.set(99, 200)
	if out.Len() > 0 {
		t.Errorf("a bar within a second: %q", out.String())
	}
	pass(time.Millisecond)
	p.set(100, 200)
	want := "\rdropping [####################--------------------] 100 of 200, 50%, 1s left\x1b[K"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	out.Reset()
	pass(barPause - time.Millisecond)
	p.set(101, 200)
	if out.Len() > 0 {
		t.Errorf("a bar that flickers: %q", out.String())
	}
	pass(time.Millisecond)
	p.set(200, 200)
	if want = "\rdropping [########################################] 200 of 200, 100%, 0s left\x1b[K"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	out.Reset()
	p.end()
	if out.String() != "\r\x1b[K" {
		t.Errorf("the bar is left as %q", out.String())
	}
}

func TestProgressLine(t *testing.T) {
	for _, test := range []struct {
		width, done, total int
		want               string
	}{
		{80, 0, 0, "dropping: 0"},
		{80, 1234, 0, "dropping: 1234"},
		{80, 0, 10, "dropping [----------------------------------------] 0 of 10, 0%"},
		{50, 1, 4, "dropping [####-------------] 1 of 4, 25%, 6s left"},
		{34, 1, 4, "dropping 1 of 4, 25%, 6s left"},
		{20, 1, 4, "dropping 1 of 4, 25"},
		{1, 1, 4, ""},
		{50, 5, 4, "dropping [################] 4 of 4, 100%, 0s left"}, // some came since
	} {
		p, _ := clocked(&bytes.Buffer{}, test.width)
		got := p.line(test.done, test.total, 2*time.Second)
		if got != test.want || len(got) >= max(test.width, 1) {
			t.Errorf("%d of %d in %d columns: %q, want %q", test.done, test.total, test.width, got, test.want)
		}
	}
}

func TestNobodyLooks(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, c := range []*console{{err: &bytes.Buffer{}}, {err: file}} {
		p := c.progress("dropping")
		p.began = p.began.Add(-time.Hour)
		p.set(1, 2)
		p.end()
	}
	if info, err := file.Stat(); err != nil || info.Size() > 0 {
		t.Errorf("a file got %d octets of a bar, %v", info.Size(), err)
	}
}
