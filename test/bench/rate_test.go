package main

import (
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/peer"
)

func TestSharesAreOfTheSameTurn(t *testing.T) {
	samples := shares([]sample{
		{Peer: "a", Rate: 300, Messages: 10, Whole: 10 * time.Millisecond},
		{Peer: "base", Rate: 100, Messages: 10, Whole: 40 * time.Millisecond},
	}, "base")
	if samples[0].Share != 3 || samples[0].ByCPU != 4 || samples[1].Share != 1 || samples[1].ByCPU != 1 {
		t.Errorf("shares: %+v", samples)
	}
	if alone := shares([]sample{{Peer: "a", Rate: 300}}, "base"); alone[0].Share != 0 {
		t.Errorf("a share of nothing: %+v", alone)
	}
}

func TestPeersTakeTurnsInBothOrders(t *testing.T) {
	peers := []*peer.Running{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	order := ""
	for turn := range 3 {
		for _, p := range inTurn(peers, turn) {
			order += p.Name
		}
	}
	if order != "abccbaabc" {
		t.Errorf("order %s", order)
	}
}

func TestAmong(t *testing.T) {
	b := &bench{opts: options{peers: []string{"direct", "smtpwall"}}}
	if got := strings.Join(b.among("postfix-queue", "smtpwall-queue"), " "); got != "smtpwall-queue" {
		t.Errorf("among smtpwall: %s", got)
	}
	b.opts.peers = peer.Names()
	if got := strings.Join(b.among("postfix-queue", "smtpwall-queue"), " "); got != "postfix-queue smtpwall-queue" {
		t.Errorf("among all: %s", got)
	}
}

func TestBuildBeforeSaysThatHistoryIsMissing(t *testing.T) {
	t.Chdir(t.TempDir()) // no repository
	t.Setenv("GIT_CEILING_DIRECTORIES", "/")
	_, err := buildBefore(t.Context(), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "needs git and the repository's history") {
		t.Errorf("error %v", err)
	}
}

func TestDurableRefusesMemory(t *testing.T) {
	b := &bench{dir: "/dev/shm"}
	if err := b.durable(t.Context()); err == nil || !strings.Contains(err.Error(), "name a directory on a disk by -dir") {
		t.Errorf("error %v", err)
	}
}
