package relay

import (
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// pace is the least time between two MAIL commands: between anybody's by
// configuration, and between those of one holder by what the relay's replies to
// this holder have taught. A relay that refuses some senders slows nobody else
// down; one that takes too much from everybody says so to everybody. It knows no
// lock and no clock: slots guards it.
type pace struct {
	least  time.Duration // by configuration
	next   time.Time     // no MAIL before, for that
	slowed map[string]*slowed
	served time.Time // when a message of somebody who is not slowed was taken
	whose  string    // it was
	swept  time.Time
}

func newPace(rate float64) pace {
	p := pace{slowed: map[string]*slowed{}}
	if rate > 0 {
		p.least = time.Duration(float64(time.Second) / rate)
	}
	return p
}

// when is the time before which a holder may not send MAIL.
func (p *pace) when(name string) time.Time {
	if s := p.slowed[name]; s != nil && s.next.After(p.next) {
		return s.next
	}
	return p.next
}

// due says whether a MAIL of a holder may go now.
func (p *pace) due(name string, now time.Time) bool { return !now.Before(p.when(name)) }

// take uses the turn.
func (p *pace) take(name string, now time.Time) {
	if p.least > 0 {
		p.next = now.Add(p.least)
	}
	if s := p.slowed[name]; s != nil {
		s.next, s.seen = now.Add(s.interval), now
	}
}

// rests says that there is nothing to wait for.
func (p *pace) rests() bool { return p.least == 0 && len(p.slowed) == 0 }

// wait is how long the last of so many has to wait for a turn, where the next
// one comes at a time.
func wait(next, now time.Time, interval time.Duration, turns int) time.Duration {
	return max(0, next.Sub(now)) + time.Duration(turns)*interval
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
