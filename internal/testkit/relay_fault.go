package testkit

import (
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// RelayStep names a point of the dialogue at which the relay can misbehave.
type RelayStep string

// The steps, in the order of a dialogue.
const (
	StepGreeting  RelayStep = "greeting"    // in place of the 220
	StepHello     RelayStep = "EHLO"        // EHLO and HELO
	StepSTARTTLS  RelayStep = "STARTTLS"    // the reply to the command
	StepHandshake RelayStep = "handshake"   // in place of the TLS handshake
	StepAuth      RelayStep = "AUTH"        // the final reply of the exchange
	StepMail      RelayStep = "MAIL"        //
	StepRcpt      RelayStep = "RCPT"        //
	StepData      RelayStep = "DATA"        // the reply to the command
	StepContent   RelayStep = "content"     // after Fault.Bytes of the content, DATA and BDAT alike
	StepEnd       RelayStep = "end of data" // the reply to CRLF.CRLF or BDAT … LAST
	StepChunk     RelayStep = "BDAT"        // the reply to a chunk that is not the last
	StepRset      RelayStep = "RSET"        //
	StepNoop      RelayStep = "NOOP"        //
	StepQuit      RelayStep = "QUIT"        //
)

// Act is what a faulty relay does.
type Act uint8

// The acts. At StepContent the acts that would need a reply of their own
// (Answer, Twice, Silent) do nothing.
const (
	Answer    Act = iota // reply with Fault.Text; 2yz and 3yz take effect, others refuse
	Raw                  // as Answer, but the octets of Fault.Text as they are, their line ends included
	Hangup               // close the connection in good order
	Reset                // close it with a TCP reset
	Stall                // neither read nor write for Fault.For or until Fault.Until is closed, then go on; without both: until the connection is closed here
	Garbage              // bytes that are no reply, then go on as if refused
	LongLine             // one reply line of 1 MiB, then go on as if refused
	ManyLines            // one reply of 100,000 lines, then go on as if refused
	Twice                // the usual reply, twice
	Silent               // the usual effect, no reply
)

// Fault is one misbehaviour.
type Fault struct {
	Act   Act
	Text  string          // for Answer: the reply, lines separated by \n, codes included
	For   time.Duration   // for Stall
	Until <-chan struct{} // for Stall

	// Only commands whose line contains this count; "" is all.
	Contains string
	// Skip lets that many pass first; Times is how often to misbehave then, 0
	// for ever; Again begins anew after that: a relay that flaps.
	Skip, Times int
	Again       bool
	// Chance is how likely the fault acts each time that it could; 0 is always.
	Chance float64
	// Bytes of content to read before a fault at StepContent.
	Bytes int64
	// Taken, at StepEnd: the message is taken and recorded whatever is said of
	// it, so that only the reply is lost.
	Taken bool
}

// On adds a fault at a step; where several fit, the one added first acts.
func (r *Relay) On(step RelayStep, fault Fault) { r.faults.add(step, fault) }

// ClearFaults forgets all faults.
func (r *Relay) ClearFaults() { r.faults.clear() }

// faultTable holds the script. The hot path looks at active alone.
type faultTable struct {
	active atomic.Bool
	mu     sync.Mutex
	script map[RelayStep][]*scripted
}

type scripted struct {
	Fault
	seen int
}

func (t *faultTable) add(step RelayStep, fault Fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.script == nil {
		t.script = make(map[RelayStep][]*scripted)
	}
	t.script[step] = append(t.script[step], &scripted{Fault: fault})
	t.active.Store(true)
}

func (t *faultTable) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.script = nil
	t.active.Store(false)
}

// find returns the fault that is due at a step, and counts it.
func (t *faultTable) find(step RelayStep, line string) (Fault, bool) {
	if !t.active.Load() {
		return Fault{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.script[step] {
		if !strings.Contains(line, s.Contains) {
			continue
		}
		if s.due() {
			return s.Fault, true
		}
	}
	return Fault{}, false
}

// due counts an occasion and says whether the fault acts on it.
func (s *scripted) due() bool {
	if s.Again && s.seen == s.Skip+s.Times {
		s.seen = 0
	}
	s.seen++
	if s.seen <= s.Skip || s.Times > 0 && s.seen > s.Skip+s.Times {
		return false
	}
	return s.Chance == 0 || rand.Float64() < s.Chance
}
