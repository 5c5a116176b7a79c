package guard

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/rules"
)

// fakeClock is a clock in virtual time whose wall may be set, on a host that may
// sleep and be booted again.
type fakeClock struct {
	began time.Time    // the boot
	ahead atomic.Int64 // of the wall clock
	slept atomic.Int64
	id    string
}

func (c *fakeClock) set(ahead time.Duration)   { c.ahead.Store(int64(ahead)) }
func (c *fakeClock) sleep(slept time.Duration) { c.slept.Store(int64(slept)) }

func (c *fakeClock) clock() clock {
	return clock{
		now:       func() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) },
		sinceBoot: func() time.Duration { return time.Since(c.began) + time.Duration(c.slept.Load()) },
		boot:      func() string { return c.id },
	}
}

func (c *fakeClock) reboot(id string) {
	c.began, c.id = time.Now(), id
	c.sleep(0)
}

// failingDisk cannot be written as long as it has an error.
type failingDisk struct {
	durable.OS
	err error
}

func (d *failingDisk) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if d.err != nil {
		return nil, d.err
	}
	return d.OS.OpenFile(name, flag, perm)
}

func (d *failingDisk) Remove(name string) error {
	if d.err != nil {
		return d.err
	}
	return d.OS.Remove(name)
}

// modeBed runs guards one after the other on one state directory, in virtual
// time.
type modeBed struct {
	*fakeKernel
	t          *testing.T
	dir        string
	clock      *fakeClock
	disk       *failingDisk
	configured rules.Mode
	guessed    bool
	guard      *Guard
	end        func()
}

func onModeBed(t *testing.T, f func(b *modeBed)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &modeBed{fakeKernel: newFakeKernel(), t: t, dir: dir, clock: &fakeClock{id: "first"}, disk: &failingDisk{}}
		b.clock.began = time.Now()
		b.start()
		f(b)
		b.end()
	})
}

func (b *modeBed) start() {
	b.t.Helper()
	g := b.newGuard(b.t, Options{Rules: rules.Options{Mode: b.configured, ProxyUID: proxyUID}, State: b.dir, Guessed: b.guessed})
	g.clock, g.disk = b.clock.clock(), b.disk
	g.attempts.who = newAttributor(g.log)
	g.attempts.who.procs.root = b.dir
	b.guard, b.end = g, runInBubble(b.t, g)
}

// runInBubble runs a guard of a synctest bubble until end is called, and returns
// when it has started.
func runInBubble(t *testing.T, g *Guard) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }() // ends by cancel, in end
	synctest.Wait()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func (b *modeBed) restart() {
	b.t.Helper()
	b.end()
	b.start()
}

func (b *modeBed) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// in fails unless that mode is in force, in the kernel and by all accounts.
func (b *modeBed) in(want rules.Mode, trial bool) {
	b.t.Helper()
	s, err := b.guard.Status(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	applied := b.applied.Mode
	b.mu.Unlock()
	if applied != want || s.Mode != want.String() || s.ModeState.Mode != want.String() || s.ModeState.Confirmed == trial {
		b.t.Fatalf("the kernel has %s, the status says %+v; want %s, on trial %v", applied, s.ModeState, want, trial)
	}
	if s.ModeState.Configured != b.configured.String() {
		b.t.Errorf("configured is %s, want %s", s.ModeState.Configured, b.configured)
	}
}

func (b *modeBed) condition(part string) {
	b.t.Helper()
	if got := b.guard.conditions.all()["mode"]; !strings.Contains(got, part) || (part == "") != (got == "") {
		b.t.Errorf("condition %q, want %q", got, part)
	}
}

func (b *modeBed) enforce(within time.Duration) {
	b.t.Helper()
	if err := b.guard.Enforce(b.t.Context(), within, "root (alice)"); err != nil {
		b.t.Fatal(err)
	}
	b.in(rules.Enforce, within != 0)
}

func (b *modeBed) stored() bool {
	_, err := os.Stat(filepath.Join(b.dir, modeFile))
	return err == nil
}

func TestATrialGoesBackByItself(t *testing.T) {
	onModeBed(t, func(b *modeBed) {
		b.in(rules.Observe, false)
		if b.stored() {
			t.Error("a guard that nobody told anything keeps a mode")
		}
		b.enforce(10 * time.Minute)
		b.pass(10*time.Minute - time.Second)
		b.in(rules.Enforce, true)
		b.pass(2 * time.Second)
		b.in(rules.Observe, false)
		if s := b.guard.Mode(); s.By != byTrial || b.stored() {
			t.Errorf("state %+v, kept %v", s, b.stored())
		}
		events := b.modes()
		if len(events) != 3 {
			t.Fatalf("events %+v", events)
		}
		on, off := events[1], events[2]
		if on.Outcome != audit.OutcomeEnforce || on.By != "root (alice)" || !on.Until.Equal(on.Time.Add(10*time.Minute)) || on.Reason == "" {
			t.Errorf("the trial is told as %+v", on)
		}
		if off.Outcome != audit.OutcomeObserve || off.By != byTrial || !off.Until.IsZero() {
			t.Errorf("its end is told as %+v", off)
		}
	})
}

func TestConfirm(t *testing.T) {
	onModeBed(t, func(b *modeBed) {
		if err := b.guard.Confirm(t.Context(), "root"); !errors.Is(err, errNoTrial) {
			t.Errorf("without a trial: %v", err)
		}
		b.enforce(time.Minute)
		if err := b.guard.Confirm(t.Context(), "root (bob)"); err != nil {
			t.Fatal(err)
		}
		b.pass(time.Hour)
		b.in(rules.Enforce, false)
		if err := b.guard.Enforce(t.Context(), time.Minute, "root"); !errors.Is(err, errNoStep) {
			t.Errorf("a trial of what is confirmed: %v", err)
		}
		b.restart()
		b.in(rules.Enforce, false)
		if s := b.guard.Mode(); s.By != "root (bob)" || s.Since.After(time.Now().Add(-time.Hour)) {
			t.Errorf("after a restart: %+v", s)
		}
	})
}

func TestEnforceForGoodEndsATrial(t *testing.T) {
	onModeBed(t, func(b *modeBed) {
		b.enforce(time.Minute)
		b.enforce(0)
		b.pass(time.Hour)
		b.in(rules.Enforce, false)
	})
}

func TestATrialBegunAgainIsTheOnlyOne(t *testing.T) {
	onModeBed(t, func(b *modeBed) {
		b.enforce(time.Minute)
		b.pass(30 * time.Second)
		b.enforce(2 * time.Minute)
		b.pass(time.Minute)
		b.in(rules.Enforce, true)
		b.pass(time.Minute + time.Second)
		b.in(rules.Observe, false)
	})
}

func TestObserve(t *testing.T) {
	onModeBed(t, func(b *modeBed) {
		b.end()
		b.configured = rules.Enforce
		b.start()
		b.in(rules.Enforce, false)
		if err := b.guard.Observe(t.Context(), "root"); err != nil {
			t.Fatal(err)
		}
		b.in(rules.Observe, false)
		b.restart()
		b.in(rules.Observe, false)
		b.enforce(time.Minute) // of what the configuration says, and yet it goes back
		b.pass(time.Minute + time.Second)
		b.in(rules.Observe, false)
		b.enforce(0)
		if b.stored() {
			t.Error("the configured mode is kept")
		}
	})
}

func TestATrialOverARestart(t *testing.T) {
	onModeBed(t, func(b *modeBed) {
		b.enforce(10 * time.Minute)
		b.pass(4 * time.Minute)
		b.end()
		b.clock.set(-100 * 24 * time.Hour) // nobody's matter within one boot
		b.pass(3 * time.Minute)
		b.start()
		b.in(rules.Enforce, true)
		b.restart()
		b.pass(2*time.Minute + 55*time.Second)
		b.in(rules.Enforce, true)
		b.pass(10 * time.Second)
		b.in(rules.Observe, false)

		b.enforce(10 * time.Minute)
		b.end()
		b.pass(time.Hour)
		applied := b.called("apply")
		b.start()
		b.in(rules.Observe, false)
		if b.called("apply") != applied+1 {
			t.Error("what was over has been in force once more")
		}
	})
}

func TestATrialOverAReboot(t *testing.T) {
	for name, tt := range map[string]struct {
		set  time.Duration // of the wall clock meanwhile
		left time.Duration
	}{
		"the clock is right":         {0, 5 * time.Minute},
		"the clock went on":          {3 * time.Minute, 2 * time.Minute},
		"the clock is past the end":  {time.Hour, 0},
		"the clock went back a bit":  {-4 * time.Minute, 9 * time.Minute},
		"the clock is of years ago":  {-20 * 365 * 24 * time.Hour, 0},
		"the clock is of next years": {20 * 365 * 24 * time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			onModeBed(t, func(b *modeBed) {
				b.enforce(10 * time.Minute)
				b.pass(4 * time.Minute)
				b.end()
				b.pass(time.Minute)
				b.clock.reboot("second")
				b.clock.set(tt.set)
				b.start()
				b.in(map[bool]rules.Mode{true: rules.Enforce, false: rules.Observe}[tt.left > 0], tt.left > 0)
				// The clock that is set right now changes nothing, nor does a
				// restart after that.
				b.clock.set(0)
				b.restart()
				if tt.left > 0 {
					b.pass(tt.left - time.Second)
					b.in(rules.Enforce, true)
				}
				b.pass(2 * time.Second)
				b.in(rules.Observe, false)
			})
		})
	}
}

func TestATrialWhileTheClockIsSetAndTheHostSleeps(t *testing.T) {
	onModeBed(t, func(b *modeBed) {
		b.enforce(10 * time.Minute)
		b.clock.set(24 * time.Hour)
		b.pass(time.Minute)
		b.in(rules.Enforce, true)
		b.clock.set(-24 * time.Hour)
		b.clock.sleep(9 * time.Minute)
		b.pass(trialLook)
		b.in(rules.Observe, false)
	})
}

func TestReloadDuringATrial(t *testing.T) {
	onModeBed(t, func(b *modeBed) {
		reload := func(configured rules.Mode) {
			t.Helper()
			b.configured = configured
			o := Options{Rules: rules.Options{Mode: configured, ProxyUID: proxyUID}}
			if err := b.guard.Reload(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		b.enforce(time.Minute)
		reload(rules.Observe)
		b.in(rules.Enforce, true)
		b.pass(time.Minute + time.Second)
		b.in(rules.Observe, false)

		b.enforce(time.Minute)
		reload(rules.Enforce) // the file is the later word
		b.in(rules.Enforce, false)
		b.pass(time.Hour)
		b.in(rules.Enforce, false)
		if s := b.guard.Mode(); s.By != byConfiguration || b.stored() {
			t.Errorf("state %+v, kept %v", s, b.stored())
		}
		reload(rules.Observe)
		b.in(rules.Observe, false)

		b.enforce(0)
		b.end()
		b.configured = rules.Enforce // while no guard ran
		b.start()
		b.in(rules.Enforce, false)
		b.end()
		b.configured = rules.Observe
		b.start()
		b.in(rules.Observe, false)
	})
}

// A file that cannot be read at a boot is no later word than the order: once it
// is mended, the order counts again.
func TestAnOrderWhileTheConfigurationCannotBeRead(t *testing.T) {
	onModeBed(t, func(b *modeBed) {
		b.enforce(0) // over observe
		b.end()
		b.configured, b.guessed = rules.Enforce, true
		for range 2 {
			b.start()
			b.in(rules.Enforce, false)
			if !b.stored() {
				t.Fatal("the order is forgotten")
			}
			b.end()
		}
		b.start()
		b.configured, b.guessed = rules.Observe, false
		o := Options{Rules: rules.Options{Mode: rules.Observe, ProxyUID: proxyUID}}
		if err := b.guard.Reload(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		b.in(rules.Enforce, false)
		if s := b.guard.Mode(); s.By != "root (alice)" {
			t.Errorf("the order comes back as %+v", s)
		}
		b.restart()
		b.in(rules.Enforce, false)

		b.end() // and if it is mended to say something else, that counts
		b.configured, b.guessed = rules.Enforce, true
		b.start()
		b.guessed = false
		if err := b.guard.Reload(t.Context(), Options{Rules: rules.Options{Mode: rules.Enforce, ProxyUID: proxyUID}}); err != nil {
			t.Fatal(err)
		}
		b.in(rules.Enforce, false)
		if b.stored() {
			t.Error("the order is still there")
		}
	})
}

// A reload that waits while a trial ends, and the end of a trial that waits
// during a reload, leave what the configuration says.
func TestReloadAsATrialEnds(t *testing.T) {
	for _, reloadFirst := range []bool{true, false} {
		onModeBed(t, func(b *modeBed) {
			b.enforce(time.Minute)
			b.clock.sleep(time.Minute)
			old := b.guard.modeNow().trial
			b.configured = rules.Enforce
			o := Options{Rules: rules.Options{Mode: rules.Enforce, ProxyUID: proxyUID}}
			steps := []func() error{
				func() error { return b.guard.Reload(t.Context(), o) },
				func() error { return b.guard.endTrial(t.Context(), old) },
			}
			if !reloadFirst {
				steps[0], steps[1] = steps[1], steps[0]
			}
			for _, step := range steps {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			b.in(rules.Enforce, false)
		})
	}
}

// Whatever orders, reloads, ends of trials and failures meet, what is told, what
// is kept and what the kernel has are the same in the end.
func TestOrdersAtTheSameTime(t *testing.T) {
	for seed := range uint64(20) {
		onModeBed(t, func(b *modeBed) {
			var all sync.WaitGroup
			for i := range uint64(6) {
				all.Go(func() { b.orderAtRandom(rand.New(rand.NewPCG(seed, i))) })
			}
			all.Wait()
			b.failing("apply", nil)
			b.pass(time.Minute) // all trials are over
			now := b.guard.modeNow()
			b.configured = now.configured
			b.in(now.running, false)
			if b.stored() == now.isConfigured() {
				t.Errorf("kept %v, of %+v", b.stored(), now)
			}
			b.restart()
			b.in(now.running, false)
		})
	}
}

// orderAtRandom does what people, a reload and a kernel without memory could do.
func (b *modeBed) orderAtRandom(r *rand.Rand) {
	for range 40 {
		ctx := b.t.Context()
		switch r.IntN(6) {
		case 0:
			b.guard.Enforce(ctx, 0, "root")
		case 1:
			b.guard.Enforce(ctx, time.Second+time.Duration(r.IntN(3000))*time.Millisecond, "root")
		case 2:
			b.guard.Confirm(ctx, "root")
		case 3:
			b.guard.Observe(ctx, "root")
		case 4:
			configured := rules.Mode(r.IntN(2))
			b.guard.Reload(ctx, Options{Rules: rules.Options{Mode: configured, ProxyUID: proxyUID}})
		case 5:
			b.failing("apply", [...]error{nil, nil, errors.New("no memory")}[r.IntN(3)])
		}
		time.Sleep(time.Duration(r.IntN(900)) * time.Millisecond)
	}
}

func TestModeWhenTheKernelRefuses(t *testing.T) {
	onModeBed(t, func(b *modeBed) {
		b.failing("apply", errors.New("no memory"))
		if err := b.guard.Enforce(t.Context(), time.Minute, "root"); err == nil || b.stored() {
			t.Errorf("got %v, kept %v", err, b.stored())
		}
		b.in(rules.Observe, false)
		b.failing("apply", nil)
		b.enforce(time.Minute)
		b.failing("apply", errors.New("no memory"))
		b.pass(time.Minute + time.Second)
		b.in(rules.Enforce, true)
		b.condition("no memory")
		b.failing("apply", nil)
		b.pass(trialLook)
		b.in(rules.Observe, false)
		b.condition("")
	})
}

func TestModeWhenTheDiskRefuses(t *testing.T) {
	onModeBed(t, func(b *modeBed) {
		b.disk.err = syscall.ENOSPC
		for name, order := range map[string]error{
			"a trial": b.guard.Enforce(t.Context(), time.Minute, "root"),
			"enforce": b.guard.Enforce(t.Context(), 0, "root"),
		} {
			if !errors.Is(order, syscall.ENOSPC) {
				t.Errorf("%s: %v", name, order)
			}
		}
		b.in(rules.Observe, false)
		b.disk.err = nil
		b.enforce(time.Minute)
		b.disk.err = syscall.EROFS
		if err := b.guard.Confirm(t.Context(), "root"); !errors.Is(err, syscall.EROFS) {
			t.Errorf("confirm: %v", err)
		}
		b.in(rules.Enforce, true)
		b.pass(time.Minute + time.Second)
		b.in(rules.Observe, false) // it goes back all the same
		b.condition("read-only")
		b.restart()
		b.in(rules.Observe, false)
	})
}

func TestATrialOfRulesThatWereReleased(t *testing.T) {
	onModeBed(t, func(b *modeBed) {
		b.enforce(time.Minute)
		if err := b.guard.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		applied := b.called("apply")
		b.pass(2 * time.Minute)
		if b.called("apply") != applied || b.guard.Mode().Mode != rules.Observe.String() {
			t.Errorf("the end of a trial put rules up that were taken down; mode %+v", b.guard.Mode())
		}
		b.enforce(0) // an order does
		if b.guard.isReleased() {
			t.Error("still released")
		}
	})
}

func TestNoStateDirectory(t *testing.T) {
	onModeBed(t, func(b *modeBed) {
		b.end()
		b.dir = ""
		b.start()
		b.enforce(time.Minute)
		b.restart()
		b.in(rules.Observe, false)
	})
}
