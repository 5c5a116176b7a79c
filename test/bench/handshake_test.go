package main

import (
	"testing"
	"time"
)

func TestAgainstTheBetterOfTheOthers(t *testing.T) {
	samples := againstBetter([]sample{
		{Peer: subject, Round: 1, Rate: 90, Messages: 10, CPU: 20 * time.Millisecond},
		{Peer: "nginx", Round: 1, Rate: 50, Messages: 10, CPU: 10 * time.Millisecond},
		{Peer: "haproxy-greeting", Round: 1, Rate: 100, Messages: 10, CPU: 40 * time.Millisecond},
		{Peer: "nginx", Round: 2, Rate: 500, Messages: 10, CPU: time.Millisecond},
	})
	for i, want := range []struct{ share, byCPU float64 }{{0.9, 0.5}, {0.5, 1}, {1, 0.25}, {1, 1}} {
		if samples[i].Share != want.share || samples[i].ByCPU != want.byCPU {
			t.Errorf("sample %d: %v and %v, want %v", i, samples[i].Share, samples[i].ByCPU, want)
		}
	}
	if alone := againstBetter([]sample{{Peer: subject, Round: 1, Rate: 90, Messages: 10, CPU: 1}}); alone[0].Share != 0 || alone[0].ByCPU != 0 {
		t.Errorf("better than nobody: %+v", alone)
	}
}

func TestLastHeap(t *testing.T) {
	for said, want := range map[string]string{
		"":                      "–",
		`{"msg":"gc 1 ms cpu"}`: "–",
		"gc 1 @0.1s 1%: 0+1+0 ms clock, 0+1/2/3+0 ms cpu, 3->4->2 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P\n{}\n" +
			"gc 2 @0.2s 1%: 0+1+0 ms clock, 0+1/2/3+0 ms cpu, 14->15->12 MB, 16 MB goal, 0 MB stacks, 0 MB globals, 2 P\nelse\n": "12",
	} {
		if got := lastHeap(said); got != want {
			t.Errorf("%q: %s, want %s", said, got, want)
		}
	}
}
