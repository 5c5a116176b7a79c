// Whatever a relay does at whatever step, the client hears 250 and the message
// arrives, or 5yz and it never does; never both, and never twice unless the
// audit says that it may.

package fault_test

import (
	"fmt"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

// misdeed is something that a relay does at a step, and what the client hears.
type misdeed struct {
	step  testkit.RelayStep
	name  string
	fault testkit.Fault
	code  int
	end   *testkit.Fault // and what it does at the end of data
}

// misdeeds are all that must not be noticed by the client, and all that must.
func misdeeds() (all []misdeed) {
	anywhere := map[string]testkit.Fault{
		"hangs up":                {Act: testkit.Hangup},
		"resets":                  {Act: testkit.Reset},
		"says 421":                {Text: "421 4.3.2 shutting down"},
		"says 451":                {Text: "451 4.3.0 not now"},
		"talks garbage":           {Act: testkit.Garbage},
		"replies with 1 MiB":      {Act: testkit.LongLine},
		"replies in 100001 lines": {Act: testkit.ManyLines},
		"ends lines with bare LF": {Act: testkit.Raw, Text: "451 4.3.0 not\n451 4.3.0 now\n"},
		"stalls, then resets":     {Act: testkit.Stall},
	}
	for _, step := range []testkit.RelayStep{
		testkit.StepGreeting, testkit.StepHello, testkit.StepSTARTTLS, testkit.StepHandshake, testkit.StepAuth,
		testkit.StepMail, testkit.StepRcpt, testkit.StepData, testkit.StepChunk, testkit.StepEnd,
	} {
		for name, fault := range anywhere {
			all = append(all, misdeed{step: step, name: name, fault: fault, code: 250})
		}
	}
	for name, fault := range map[string]testkit.Fault{
		"hangs up": {Act: testkit.Hangup}, "resets": {Act: testkit.Reset}, "stalls, then resets": {Act: testkit.Stall},
	} {
		fault.Bytes = 64 << 10
		all = append(all, misdeed{step: testkit.StepContent, name: name, fault: fault, code: 250})
	}
	for _, step := range []testkit.RelayStep{testkit.StepMail, testkit.StepRcpt, testkit.StepEnd} {
		all = append(all,
			misdeed{step: step, name: "says 550", fault: testkit.Fault{Text: "550 5.7.1 not this one"}, code: 550},
			misdeed{step: step, name: "says 554 in two lines", fault: testkit.Fault{Text: "554-5.7.1 not\n554 5.7.1 this one"}, code: 554})
	}
	// What is wrong between the relay and us is none of the client's business.
	for _, step := range []testkit.RelayStep{testkit.StepGreeting, testkit.StepHello, testkit.StepSTARTTLS, testkit.StepAuth} {
		all = append(all, misdeed{step: step, name: "says 550", fault: testkit.Fault{Text: "550 5.7.1 go away"}, code: 250})
	}
	return append(all, miscounts()...)
}

// miscounts are wrong numbers of replies, and replies that were lost.
func miscounts() (all []misdeed) {
	for _, step := range []testkit.RelayStep{
		testkit.StepGreeting, testkit.StepHello, testkit.StepAuth, testkit.StepMail, testkit.StepRcpt, testkit.StepData, testkit.StepEnd,
	} {
		all = append(all, misdeed{step: step, name: "replies twice", fault: testkit.Fault{Act: testkit.Twice}, code: 250})
	}
	for _, step := range []testkit.RelayStep{testkit.StepMail, testkit.StepRcpt, testkit.StepData, testkit.StepEnd} {
		all = append(all, misdeed{step: step, name: "does not reply", fault: testkit.Fault{Act: testkit.Silent}, code: 250})
	}
	// The reply too many must not be taken for the last one.
	for _, step := range []testkit.RelayStep{testkit.StepMail, testkit.StepRcpt} {
		all = append(all, misdeed{
			step: step, name: "replies twice, and refuses in the end", fault: testkit.Fault{Act: testkit.Twice}, code: 250,
			end: &testkit.Fault{Text: "451 4.3.0 queue is full"},
		})
	}
	for name, fault := range map[string]testkit.Fault{
		"takes it and hangs up":            {Act: testkit.Hangup, Taken: true},
		"takes it and resets":              {Act: testkit.Reset, Taken: true},
		"takes it and talks garbage":       {Act: testkit.Garbage, Taken: true},
		"takes it and replies with 1 MiB":  {Act: testkit.LongLine, Taken: true},
		"takes it and ends lines with LF":  {Act: testkit.Raw, Text: "250-2.0.0 I have\n250 2.0.0 it\n"},
		"takes it and says something else": {Act: testkit.Raw, Text: "354 go on\r\n", Taken: true},
	} {
		all = append(all, misdeed{step: testkit.StepEnd, name: name, fault: fault, code: 250})
	}
	return all
}

func TestRelayMisbehaves(t *testing.T) {
	for _, without := range [][]string{nil, {"CHUNKING"}, {"PIPELINING", "CHUNKING"}} {
		t.Run(fmt.Sprintf("without %v", without), func(t *testing.T) {
			t.Parallel()
			h := newHost(t, setup{relay: testkit.RelayOptions{Without: without}})
			for _, m := range misdeeds() {
				if without != nil && !m.inTransaction() {
					continue // nothing is different before the first MAIL
				}
				t.Run(string(m.step)+" "+m.name, func(t *testing.T) { h.suffer(t, m) })
			}
		})
	}
}

// sizes are those of a letter that fits a buffer and of one that does not.
var sizes = []int{300, 200 << 10}

// suffer sends letters to a relay that misbehaves while the client waits for its
// word.
func (h *host) suffer(t *testing.T, m misdeed) {
	h.restart() // so that it knows nothing of the relay yet
	before := h.relay().Counters().Faults
	for _, size := range sizes {
		l := newLetter()
		l.size = size
		h.begin(m)
		got := h.sendAndEndStalls(l, m)
		h.end()
		if got.code != m.code {
			t.Errorf("%d octets: the client heard %+v, want %d", size, got, m.code)
		}
		h.settle(t)
	}
	h.checkMet(t, m, before)
}

// begin lets the relay misbehave from its next connection on.
func (h *host) begin(m misdeed) {
	h.relay().DropConnections()
	h.relay().On(m.step, m.fault)
	if m.end != nil {
		h.relay().On(testkit.StepEnd, *m.end)
	}
}

// end lets it do no more of that, not even on the connections that still stall.
func (h *host) end() {
	h.relay().ClearFaults()
	h.relay().DropConnections()
}

// checkMet sees to it that the relay did misbehave. Of the two ways to send data
// the proxy has to use one.
func (h *host) checkMet(t *testing.T, m misdeed, before int64) {
	t.Helper()
	if h.relay().Counters().Faults == before && m.step != testkit.StepChunk && m.step != testkit.StepData {
		t.Error("the relay had no occasion for that")
	}
}

// sendAndEndStalls sends a letter, and ends the connections of a relay that
// stalls or owes a reply, which would take minutes otherwise.
func (h *host) sendAndEndStalls(l letter, m misdeed) (got reply) {
	done := make(chan struct{})
	go func() { // ends with the client, whose patience is bounded
		defer close(done)
		got = h.send(l)
	}()
	ended := func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
	before := h.relay().Counters().Faults
	for !within(stallTime, ended) {
		if m.stalls() && h.relay().Counters().Faults > before {
			h.relay().DropConnections()
		}
	}
	<-done
	return got
}

// inTransaction says that the step comes after the relay's connection is ready.
func (m misdeed) inTransaction() bool {
	switch m.step {
	case testkit.StepMail, testkit.StepRcpt, testkit.StepData, testkit.StepChunk, testkit.StepContent, testkit.StepEnd:
		return true
	}
	return false
}

func (m misdeed) stalls() bool { return m.fault.Act == testkit.Stall || m.fault.Act == testkit.Silent }

// TestRelayMisbehavesTowardsTheSpool: the same where the client had its 250
// before; what the relay refuses for good, the sender is told.
func TestRelayMisbehavesTowardsTheSpool(t *testing.T) {
	t.Parallel()
	h := newHost(t, setup{mode: "queue"})
	for _, m := range misdeeds() {
		t.Run(string(m.step)+" "+m.name, func(t *testing.T) {
			h.restart()
			before := h.relay().Counters().Faults
			for _, size := range sizes {
				if m.code != 250 {
					m.fault.Times = 1 // the notice is not to be refused
				}
				h.sufferLater(t, m, size)
			}
			h.checkMet(t, m, before)
		})
	}
}

// sufferLater sends a letter that the relay will misbehave about.
func (h *host) sufferLater(t *testing.T, m misdeed, size int) {
	l := newLetter()
	l.size = size
	before := h.relay().Counters().Faults
	h.begin(m)
	h.must(250, l)
	_ = within(stallTime, func() bool { return h.relay().Counters().Faults > before || len(h.spooled()) == 0 })
	h.end()
	h.settle(t)
	if refused := m.code != 250; h.ledger.hasArrived(l) == refused {
		t.Errorf("%d octets: refused %v and arrived %v", size, refused, !refused)
	}
}
