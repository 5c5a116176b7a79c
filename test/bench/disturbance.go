package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/peer"
)

// userHZ is the unit of /proc/stat.
const userHZ = 10 * time.Millisecond

// meter reads how much processor time went to whom.
type meter struct {
	at   time.Time
	all  time.Duration // everybody on the machine, and what the hypervisor took
	peer time.Duration
	ours time.Duration // driver, relay and peer
}

func (b *bench) meter(p *peer.Running) (meter, error) {
	m := meter{at: time.Now()}
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return m, err
	}
	if m.all, err = busyTime(string(text)); err != nil {
		return m, err
	}
	if m.peer, err = p.CPU(); err != nil {
		return m, err
	}
	relay, err := (&peer.Running{Name: "relay", PID: b.relay.PID()}).CPU()
	m.ours = m.peer + relay + processTime()
	return m, err
}

// busyTime adds up the first line of proc_stat(5), but for idle and iowait.
// Guests' time is part of user and nice already.
func busyTime(text string) (time.Duration, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("reading /proc/stat: %q", line)
	}
	var ticks int64
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // user, nice, system, irq, softirq, steal
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading /proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * userHZ, nil
}

// disturbance is the share of the machine that others had between two readings.
func disturbance(before, after meter) float64 {
	others := (after.all - before.all) - (after.ours - before.ours)
	whole := after.at.Sub(before.at) * time.Duration(runtime.NumCPU())
	if whole <= 0 {
		return 0
	}
	return max(0, float64(others)/float64(whole))
}

// patience is how long a calm moment is waited for.
const patience = 30 * time.Minute

// calm measures until the machine was calm meanwhile, if that was asked for. It
// looks before it measures: trying would be what disturbs others.
func (b *bench) calm(ctx context.Context, measure func() (sample, error)) (sample, error) {
	for begin := time.Now(); ; {
		if b.opts.calm > 0 {
			if err := b.awaitCalm(ctx, begin.Add(patience)); err != nil {
				return sample{}, err
			}
		}
		s, err := measure()
		if err != nil || b.opts.calm == 0 || s.Disturbance*100 <= b.opts.calm {
			return s, err
		}
	}
}

// awaitCalm waits until others leave the machine alone for half a second.
func (b *bench) awaitCalm(ctx context.Context, until time.Time) error {
	nobody := &peer.Running{}
	for {
		before, err := b.meter(nobody)
		if err != nil {
			return err
		}
		if err := rest(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		after, err := b.meter(nobody)
		if err != nil {
			return err
		}
		others := disturbance(before, after) * 100
		if others <= b.opts.calm {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("the machine was never calm: others had %.0f %% of it", others)
		}
	}
}
