package relay

import (
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// How the pace is learnt.
const (
	firstPace   = 100 * time.Millisecond
	slowestPace = 5 * time.Second
	fastestPace = 10 * time.Millisecond // below that there is none
)

// pace is the least time between two MAIL commands: what configuration says, or
// what the relay's replies have taught, whichever is longer. It doubles when the
// relay says that it comes too fast and falls by a fifth with each message that
// the relay takes. It knows no lock and no clock: slots guards it.
type pace struct {
	least   time.Duration // by configuration
	learnt  time.Duration
	next    time.Time // no MAIL before
	blamed  string    // whose MAIL was the last raise's
	excused bool      // others' messages were taken since
}

func newPace(rate float64) pace {
	if rate <= 0 {
		return pace{}
	}
	return pace{least: time.Duration(float64(time.Second) / rate)}
}

func (p *pace) interval() time.Duration { return max(p.least, p.learnt) }

// due says whether a MAIL may go now.
func (p *pace) due(now time.Time) bool { return p.interval() == 0 || !now.Before(p.next) }

// take uses the turn.
func (p *pace) take(now time.Time) {
	if interval := p.interval(); interval > 0 {
		p.next = now.Add(interval)
	}
}

// room is how many turns come within patience.
func (p *pace) room(now time.Time, patience time.Duration) int {
	wait := max(0, p.next.Sub(now))
	if wait > patience {
		return 0
	}
	return int((patience-wait)/p.interval()) + 1
}

// raise slows down after the relay's complaint about a MAIL of holder. Who is
// refused while others are served is refused for what it sends, and does not
// slow the others down.
func (p *pace) raise(holder string, now time.Time) bool {
	if p.learnt > 0 && p.excused && p.blamed == holder {
		return false
	}
	p.learnt = min(max(firstPace, 2*p.interval()), slowestPace)
	p.next = now.Add(p.interval())
	p.blamed, p.excused = holder, false
	return true
}

// succeed speeds up after the relay took a message of holder.
func (p *pace) succeed(holder string) {
	if p.learnt = p.learnt * 4 / 5; p.learnt < fastestPace {
		p.learnt = 0
	}
	p.excused = p.excused || p.blamed != holder
}

// complains says that a refusal of MAIL is about how much we send, as far as
// its codes tell: texts are not looked at. What is about an address, a mailbox,
// the syntax or the content is not (RFC 3463 sections 3.2, 3.3, 3.6 and 3.7).
func complains(mail smtp.Reply) bool {
	switch mail.Enhanced[1] {
	case 1, 2, 6:
		return false
	case 5:
		return mail.Transient() && mail.Enhanced[2] == 3
	}
	return mail.Transient()
}

// complainsAtRcpt is complains for RCPT, where only a code that speaks of load
// counts. first says that no recipient was accepted before: later, 4.5.3 is
// about the number of recipients of one message (RFC 3463 section 3.6).
func complainsAtRcpt(rcpt smtp.Reply, first bool) bool {
	switch code := rcpt.Enhanced; {
	case !rcpt.Transient():
		return false
	case code[1] == 7, code == smtp.EnhancedCode{4, 3, 2}, code == smtp.EnhancedCode{4, 4, 5}:
		return true
	default:
		return code == smtp.EnhancedCode{4, 5, 3} && first
	}
}
