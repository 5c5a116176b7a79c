// Each recipient of a message has a fate of its own: the relay takes it now,
// takes it later, or never, and that is what the client heard of it.

package fault_test

import (
	"fmt"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// ending is what the relay does at the end of data.
type ending struct {
	name  string
	fault *testkit.Fault
	code  int // what the client hears then
}

var endings = []ending{
	{"takes it", nil, 250},
	{"wants it later", &testkit.Fault{Text: "451 4.3.0 queue is full"}, 250},
	{"refuses it", &testkit.Fault{Text: "554 5.6.0 not this one"}, 554},
	{"resets", &testkit.Fault{Act: testkit.Reset}, 250},
	{"takes it and resets", &testkit.Fault{Act: testkit.Reset, Taken: true}, 250},
}

// fates are the relay's replies to a recipient by its name.
var fates = map[string]string{"now": "", "later": "450 4.2.1 busy mailbox", "never": "550 5.1.1 nobody here"}

func TestRecipientsHaveFatesOfTheirOwn(t *testing.T) {
	for _, mode := range []string{"proxy", "queue"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, setup{mode: mode})
			for first := range fates {
				for second := range fates {
					for _, end := range endings {
						t.Run(fmt.Sprintf("%s, %s, and it %s", first, second, end.name), func(t *testing.T) {
							h.restart()
							if mode == "proxy" {
								h.checkProxied(t, first, second, end)
							} else {
								h.checkQueued(t, first, second, end)
							}
						})
					}
				}
			}
		})
	}
}

// decide makes the relay say to recipients what their names ask for.
func (h *host) decide(names ...string) {
	for _, name := range names {
		if text := fates[name]; text != "" {
			h.relay().On(testkit.StepRcpt, testkit.Fault{Text: text, Contains: "<" + name})
		}
	}
}

// checkProxied is for a client that hears the relay's word.
func (h *host) checkProxied(t *testing.T, first, second string, end ending) {
	h.decide(first, second)
	if end.fault != nil {
		h.relay().On(testkit.StepEnd, *end.fault)
	}
	got := h.send(newLetter(first+"1@example.net", second+"2@example.net"))
	want := end.code
	switch {
	case first == "never" && second == "never":
		want = 550
	case first != "now" && second != "now":
		want = 250 // the end of data is for another day
	}
	if got.code != want {
		t.Errorf("the client heard %+v, want %d", got, want)
	}
	h.heal()
	h.settle(t)
}

// checkQueued is for a client that hears 250 at once, and whose notices tell the
// rest.
func (h *host) checkQueued(t *testing.T, first, second string, end ending) {
	h.decide(first, second)
	if end.fault != nil && (first == "now" || second == "now") { // else the end of the data is that of a notice
		once := *end.fault
		once.Times = 1
		h.relay().On(testkit.StepEnd, once)
	}
	l := newLetter(first+"1@example.net", second+"2@example.net")
	h.must(250, l)
	eventually(t, "a first try is over", func() bool { return len(h.spooledAs("active")) == 0 && h.tried(t, l) })
	h.relay().ClearFaults()
	h.decide("never")
	h.settle(t)
	for i, name := range []string{first, second} {
		e := h.ledger.entries[l.marker+" "+l.to[i]]
		refused := name == "never" || name == "now" && end.code != 250
		if refused && (e.arrived > 0 || !e.bounced) || !refused && e.arrived == 0 {
			t.Errorf("what became of the recipient %s%d: %+v", name, i+1, *e)
		}
	}
}

// tried says whether a delivery of a letter was tried.
func (h *host) tried(t *testing.T, l letter) bool {
	for _, event := range h.events(t) {
		if event.ReversePath == l.from() && event.Kind == audit.KindDelivery {
			return true
		}
	}
	return false
}
