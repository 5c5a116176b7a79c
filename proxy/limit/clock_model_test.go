package limit

import (
	"math/rand/v2"
	"testing"
	"time"
)

// slack is what clocks may differ by, because a step below a second is not noticed.
const slack = 3 * time.Second

// host is one whose clock is right, or behind the truth: it comes up in 1970, is
// set, or set back. The true time is known here, and to the Limiter only as far as
// the clock tells.
type host struct {
	t      *testing.T
	random *rand.Rand
	store  *failing
	l      *Limiter
	clocks int // times it was started without a clock

	truth time.Time
	late  time.Duration // how far the clock is behind the truth
	began time.Time     // where the monotonic time of this process is counted from
	run   time.Duration // for how long there was a Limiter, in all
	boots time.Duration // run at the last start
	past  time.Time     // what a session was told a while ago; zero: none is left from this process

	sent []*dispatch
	told int64         // by the clock, at the last look; 0 is none since the start
	seen time.Duration // run at the last look
}

// dispatch is a message that was counted.
type dispatch struct {
	truth time.Time
	run   time.Duration
	vague bool // it was sent while the clock was behind, and that was set forward since
	dated bool // the clock was right
}

var hostLimit = limits("uid:1", Limit{Messages, 1 << 30, time.Hour})

// now is what the host tells a session.
func (h *host) now() time.Time {
	return moment(h.t, h.truth.Add(-h.late), h.began.Add(h.run-h.boots))
}

func (h *host) upTo(most time.Duration) time.Duration {
	return time.Duration(h.random.Int64N(int64(most) + 1))
}

func (h *host) goOn(by time.Duration) { h.truth, h.run = h.truth.Add(by), h.run+by }

// boot stops the host and starts it after a while.
func (h *host) boot() {
	if h.l != nil {
		if err := h.l.flush(); err != nil {
			h.t.Fatal(err)
		}
	}
	h.truth = h.truth.Add(h.upTo(90 * time.Minute))
	switch h.random.IntN(3) {
	case 0: // without a clock
		h.late = h.truth.Sub(time.Unix(h.random.Int64N(1000), 0))
		h.clocks++
	case 1: // with one that stood still
		h.late += h.upTo(time.Hour)
	default:
		h.late = 0
	}
	h.l = on(h.t, h.store)
	h.began, h.boots, h.past, h.told = time.Now(), h.run, time.Time{}, 0
}

// step does one of what happens, and tells whether the clock may have been set forward.
func (h *host) step() (forward bool) {
	switch h.random.IntN(40) {
	case 0:
		h.boot()
		return true
	case 1, 2: // set right
		h.late = 0
		return true
	case 3, 4: // set nearer to the truth
		h.late -= h.upTo(h.late)
		return true
	case 5, 6: // set back
		h.late += h.upTo(2 * time.Hour)
	case 7:
		h.goOn(h.upTo(90 * time.Minute)) // and nobody comes
	default:
		h.goOn(h.upTo(2 * time.Minute))
	}
	return false
}

// send counts a message, after a session that was late.
func (h *host) send() {
	if !h.past.IsZero() {
		h.l.clock.at(h.past)
	}
	now := h.now()
	if h.past.IsZero() || h.random.IntN(4) == 0 {
		h.past = now
	}
	send(h.l, "uid:1", hostLimit, now, Amount{Messages: 1})
	behind := h.truth.Sub(time.Unix(0, h.l.clock.at(now)))
	h.sent = append(h.sent, &dispatch{truth: h.truth, run: h.run, dated: behind < slack})
}

// lookAtClock: it is never ahead of the truth, nor behind it where the host's is
// right, and runs as fast as the truth unless it is set forward.
func (h *host) lookAtClock(forward bool) {
	told := h.l.clock.at(h.now())
	ahead := time.Duration(told - h.truth.UnixNano())
	if ahead > time.Millisecond || h.late == 0 && ahead < -slack {
		h.t.Fatalf("it is %v ahead of the truth, and the host's %v behind", ahead, h.late)
	}
	if h.told != 0 {
		by, passed := time.Duration(told-h.told), h.run-h.seen
		if by < passed-slack || !forward && by > passed+slack {
			h.t.Fatalf("it went on by %v in %v", by, passed)
		}
	}
	h.told, h.seen = told, h.run
}

// lookAtCounts: a message that was sent when the time was known counts for its window
// by the truth, and any other until the clock is set forward at least. None counts for
// more than its window and a slot by the truth, where that is known, nor for more than
// that after the last start.
func (h *host) lookAtCounts(forward bool) (used, must int64) {
	most, may := time.Hour+time.Hour/slots+slack, int64(0)
	for _, d := range h.sent {
		d.vague = d.vague || forward && !d.dated
		age := h.truth.Sub(d.truth)
		if !d.vague && age < time.Hour-slack {
			must++
		}
		if h.run-max(d.run, h.boots) <= most && (h.late > 0 || age <= most) {
			may++
		}
	}
	used = h.l.State("uid:1", hostLimit, h.now())[0].Used
	if used < must || used > may {
		h.t.Fatalf("%d count, want %d to %d; the clock is %v behind", used, must, may, h.late)
	}
	return used, must
}

// TestClockModel plays hosts that stop, come up in 1970 and have their clocks set
// and set back.
func TestClockModel(t *testing.T) {
	clocks, used, must := 0, int64(0), int64(0)
	for seed := range uint64(300) {
		h := &host{t: t, random: rand.New(rand.NewPCG(seed, 7)), store: &failing{kept: map[string][]byte{}}, truth: start}
		h.boot()
		for range 300 {
			forward := h.step()
			h.lookAtClock(forward)
			u, m := h.lookAtCounts(forward)
			h.send()
			used, must = used+u, must+m
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		clocks += h.clocks
	}
	t.Logf("started without a clock %d times; %d counted, where %d had to be", clocks, used, must)
	if clocks < 300 || must < used/2 {
		t.Error("that is too little to mean anything")
	}
}
