package fault_test

import (
	"sync"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

// story is something that a proxy lives through, in which it may die or fail at
// any step. It ends when nothing more happens by itself.
type story struct {
	name  string
	setup setup
	tell  func(*host)
}

// stories pass every way of a message through the spool.
func stories() []story {
	return []story{
		{"kept while the relay is away, delivered when it is back", setup{}, func(h *host) {
			h.down()
			h.sendAll(newLetter(), bigLetter())
			h.up()
			h.drain()
		}},
		{"given up, since the relay has them, and then one that stays", setup{}, func(h *host) {
			h.sendAll(bigLetter(), bigLetter()) // whose files are there to be overwritten
			h.down()
			shorter := bigLetter()
			shorter.size -= 40 << 10
			h.sendAll(shorter)
			h.up()
			h.drain()
		}},
		{"taken first, by several clients at once", setup{mode: "queue"}, func(h *host) {
			h.sendAll(newLetter(), newLetter(), newLetter())
			h.drain()
		}},
		{"later for one recipient, never for another", setup{}, func(h *host) {
			h.relay().On(testkit.StepRcpt, testkit.Fault{Text: "450 4.2.1 busy mailbox", Contains: "later@"})
			h.relay().On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 nobody here", Contains: "never@"})
			h.sendAll(newLetter("now@example.net", "later@example.net", "never@example.net"))
			h.relay().ClearFaults()
			h.drain()
		}},
		{"tried in vain, then delivered", setup{mode: "queue"}, func(h *host) {
			h.relay().On(testkit.StepEnd, testkit.Fault{Text: "451 4.3.0 queue is full", Times: 1})
			h.sendAll(newLetter())
			h.drain()
		}},
		{"refused by the relay for good, and its sender told", setup{mode: "queue"}, func(h *host) {
			h.relay().On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 nobody here", Contains: "never@"})
			h.sendAll(newLetter("now@example.net", "never@example.net"), newLetter("never@example.net"))
			h.drain()
		}},
		{"taken by the relay, whose reply is lost", setup{}, func(h *host) {
			h.relay().On(testkit.StepEnd, testkit.Fault{Act: testkit.Reset, Taken: true, Times: 1})
			h.sendAll(newLetter())
			h.drain()
		}},
	}
}

// bigLetter is one that does not fit a buffer.
func bigLetter() letter {
	l := newLetter()
	l.size = 100 << 10
	return l
}

// sendAll sends letters at the same time, each by a client of its own.
func (h *host) sendAll(letters ...letter) {
	var sending sync.WaitGroup
	for _, l := range letters {
		sending.Go(func() { h.send(l) })
	}
	sending.Wait()
}

// drain waits until the spool is empty or the child is dead or does nothing
// more for a while.
func (h *host) drain() {
	for range 20 {
		if len(h.spooled()) == 0 || !h.alive() {
			return
		}
		h.retry()
		_ = within(retryPause, func() bool { return len(h.spooled()) == 0 })
	}
}
