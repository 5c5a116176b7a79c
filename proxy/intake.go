package proxy

import (
	"strconv"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/breaker"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// intake is the message on its way in: it counts octets, holds the header
// section back until it was looked at, puts our trace field in front, and
// passes the rest on as it comes.
type intake struct {
	session     *session
	transaction *transaction
	size        int64            // octets of the client's message
	head        []byte           // of a header section that has not ended yet
	long        bool             // it is one of Server.longHeads
	passing     bool             // the header section was accepted
	refusal     *smtp.Reply      // ours; the rest is read and dropped
	checker     smtp.LineChecker // for BDAT
	digest      breaker.Body     // of the body
	digesting   bool
	screening   *screening // nil where no filter is configured
}

func newIntake(s *session, t *transaction) *intake {
	return &intake{session: s, transaction: t, digesting: s.settings.CompareBodies && s.server.warden != nil}
}

// take takes the next octets of the message and keeps none of them. dotless
// says that no line of them begins with a dot.
func (in *intake) take(p []byte, dotless bool) {
	in.size += int64(len(p))
	if limit := in.session.settings.Limits.MaxMessage; in.size > limit && in.refusal == nil {
		in.refuse(smtp.NewReply(552, smtp.EnhancedCode{5, 3, 4}, // RFC 1870 section 6.3
			"message too large: the limit is "+strconv.FormatInt(limit, 10)+" octets"))
	}
	switch {
	case in.refusal != nil || len(p) == 0:
	case in.passing:
		in.pass(p, dotless)
	default:
		in.takeHead(p, dotless)
	}
}

// takeHead gathers the header section. Most come whole in the first octets,
// and are not copied.
func (in *intake) takeHead(p []byte, dotless bool) {
	seen := len(in.head)
	if seen > 0 {
		dotless = false // what was gathered before is not known
		in.head = append(in.head, p...)
		p = in.head
	}
	switch end := smtp.HeaderEnd(p, seen); {
	case end >= 0:
		in.judgeHead(p[:end], p, dotless)
	case len(p) > maxHeader:
		in.refuse(smtp.NewReply(552, smtp.EnhancedCode{5, 3, 4}, "header section too large"))
	case len(p) > shortHeader && !in.growHead():
		in.refuse(smtp.NewReply(451, smtp.EnhancedCode{4, 3, 1}, "too many long header sections at once, try again later"))
	case seen == 0:
		in.head = append(in.head, p...)
	}
}

// growHead makes room for a header section of any length, if few enough
// sessions hold one: they are all that grows with what a client sends.
func (in *intake) growHead() bool {
	if in.long {
		return true
	}
	select {
	case in.session.server.longHeads <- struct{}{}:
		in.long = true
		in.head = append(make([]byte, 0, maxHeader+dataBuffer), in.head...)
		return true
	default:
		return false
	}
}

// drop forgets what was kept of the message.
func (in *intake) drop() {
	in.dropHead()
	if in.screening != nil {
		in.screening.close()
	}
}

// dropHead forgets the header section.
func (in *intake) dropHead() {
	in.head = nil
	if in.long {
		in.long = false
		<-in.session.server.longHeads
	}
}

// judgeHead lets the header section and what came with it through, or refuses
// the message.
func (in *intake) judgeHead(header, message []byte, dotless bool) {
	if len(header) > 0 && (header[0] == ' ' || header[0] == '\t') {
		// It would continue our trace field (RFC 5322 section 2.2.3).
		in.refuse(smtp.NewReply(550, smtp.EnhancedCode{5, 6, 0}, "the header section begins with a continuation line"))
		return
	}
	if smtp.CountField(header, "received") > maxReceived {
		in.refuse(smtp.NewReply(554, smtp.EnhancedCode{5, 4, 6}, "too many hops: the message goes in circles")) // RFC 5321 section 6.3
		return
	}
	t := in.transaction
	if t.decision.CheckHeader {
		decision := in.session.judgeHeader(header)
		if !passes(decision) {
			t.decision = decision
			in.refuse(smtp.NewReply(550, smtp.EnhancedCode{5, 7, 1}, ruled(decision)))
			return
		}
	}
	in.passing = true
	body := message[len(header):]
	if s := in.session.settings; len(s.Filters) > 0 {
		in.screening = newScreening(in.session, header)
		_, _ = in.screening.body.Write(body) // an error of it comes back at the end
	} else {
		t.delivery.write(in.session.traceField(t, time.Now()), true)
		t.delivery.write(message, dotless)
	}
	in.digestBody(body)
	in.dropHead()
}

// pass passes on what follows the header section.
func (in *intake) pass(p []byte, dotless bool) {
	if in.screening != nil {
		_, _ = in.screening.body.Write(p)
	} else {
		in.transaction.delivery.write(p, dotless)
	}
	in.digestBody(p)
}

// digestBody lets the breakers tell bodies apart. Nothing of them is kept.
func (in *intake) digestBody(p []byte) {
	if in.digesting {
		_, _ = in.digest.Write(p) // never fails
	}
}

// refuse drops the message; the client hears of it at the end of the data.
func (in *intake) refuse(reply smtp.Reply) {
	in.refusal = &reply
	in.drop()
	in.transaction.delivery.abort()
}

// finish ends the message.
func (in *intake) finish() result {
	if in.refusal == nil && !in.passing {
		in.judgeHead(in.head, in.head, false) // a message of header fields alone
	}
	if in.refusal == nil {
		if refusal := in.session.measureSize(in.size); refusal.Code != 0 {
			in.refuse(refusal)
		}
	}
	if in.refusal != nil {
		return result{reply: *in.refusal, custody: audit.CustodyClient}
	}
	if in.screening != nil {
		return in.screen()
	}
	return in.transaction.delivery.finish()
}
