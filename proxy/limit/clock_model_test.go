package limit

import (
	"math/rand/v2"
	"testing"
	"time"
)

// host is one whose clock is right, or behind the truth: it comes up in 1970, is
// set, or set back. The true time is known here, and to the Limiter only as far as
// the clock tells.
type host struct {
	t      *testing.T
	random *rand.Rand
	store  *failing
	l      *Limiter

	began time.Time     // where the process's monotonic time is counted from
	ran   time.Duration // since then
	truth time.Time
	late  time.Duration // how far the clock is behind the truth

	run  time.Duration // how long a Limiter was there, in all
	sent []dispatch
	told int64 // the Limiter's time, at the last look
	seen time.Duration
}

// dispatch is a message that was counted, by the ways to say when.
type dispatch struct {
	truth time.Time
	run   time.Duration
	dated bool // the Limiter knew the true time
}

var hostLimit = limits("uid:1", Limit{Messages, 1 << 30, time.Hour})

const hostSlot = time.Hour / slots

// now is what the host says, to a session that may be a little late.
func (h *host) now() time.Time {
	return moment(h.t, h.truth.Add(-h.late), h.began.Add(h.ran))
}

func (h *host) goOn(by time.Duration) {
	h.truth, h.ran, h.run = h.truth.Add(by), h.ran+by, h.run+by
}

// boot stops the host, or kills it, and starts it after a while.
func (h *host) boot() {
	if h.l != nil {
		if err := h.l.flush(); err != nil {
			h.t.Fatal(err)
		}
	}
	h.truth = h.truth.Add(time.Duration(h.random.Int64N(int64(3 * time.Hour))))
	h.began, h.ran = time.Now(), time.Duration(h.random.Int64N(int64(time.Minute)))
	switch h.random.IntN(3) {
	case 0: // without a clock
		h.late = h.truth.Sub(time.Unix(h.random.Int64N(1000), 0))
	case 1: // with one that stood still
		h.late += time.Duration(h.random.Int64N(int64(time.Hour)))
	case 2:
		h.late = 0
	}
	h.l, h.told = on(h.t, h.store), 0
}

// step does one of what may happen, and tells whether the clock was moved forward.
func (h *host) step() (forward bool) {
	switch h.random.IntN(12) {
	case 0:
		h.boot()
		return true
	case 1: // set right
		h.late = 0
		return true
	case 2: // set nearer to the truth
		h.late -= time.Duration(h.random.Int64N(int64(h.late) + 1))
		return true
	case 3: // set back
		h.late += time.Duration(h.random.Int64N(int64(2 * time.Hour)))
	case 4:
		h.goOn(time.Duration(h.random.Int64N(int64(2 * time.Hour))))
	default:
		h.goOn(time.Duration(h.random.Int64N(int64(time.Minute))))
	}
	return false
}

// send counts a message, and notes when.
func (h *host) send() {
	send(h.l, "uid:1", hostLimit, h.now(), Amount{Messages: 1})
	off := h.l.clock.last.Load() - h.truth.UnixNano()
	h.sent = append(h.sent, dispatch{h.truth, h.run, off > -int64(2*notable)})
}

// look compares the clock with the truth, and what is counted with what must be and
// with what may be.
func (h *host) look(forward bool) {
	told := h.l.clock.at(h.now())
	used := h.l.State("uid:1", hostLimit, h.now())[0].Used
	ahead := time.Duration(told - h.truth.UnixNano())
	if ahead > time.Millisecond || h.late == 0 && ahead < -patienceAtLoad {
		h.t.Fatalf("the clock is %v ahead of the truth, the host's %v behind", ahead, h.late)
	}
	if passed := h.run - h.seen; h.told != 0 {
		by := time.Duration(told - h.told)
		if by < passed-2*time.Duration(notable) || !forward && by > passed+2*time.Duration(notable) {
			h.t.Fatalf("the clock went on by %v in %v", by, passed)
		}
	}
	h.told, h.seen = told, h.run
	if forward { // what was counted while the clock was behind may be of any age
		h.sent = keepDated(h.sent)
	}
	must, may := int64(0), int64(0)
	for _, d := range h.sent {
		age := h.truth.Sub(d.truth)
		if age < time.Hour-2*time.Duration(notable) {
			must++
		}
		over := h.late == 0 && age > time.Hour+hostSlot+patienceAtLoad
		if !over && h.run-d.run <= time.Hour+hostSlot+patienceAtLoad {
			may++
		}
	}
	if used < must || forward && false {
		h.t.Fatalf("%d counted, and %d were sent within the window", used, must)
	}
	_ = may
}

const patienceAtLoad = time.Duration(patience)

func keepDated(all []dispatch) (dated []dispatch) {
	for _, d := range all {
		if d.dated {
			dated = append(dated, d)
		}
	}
	return dated
}

func TestClockModel(t *testing.T) {
	for seed := range uint64(10) {
		h := &host{t: t, random: rand.New(rand.NewPCG(seed, 7)), store: &failing{kept: map[string][]byte{}}, truth: start}
		h.boot()
		for range 10 {
			h.look(h.step())
		}
	}
}
