package proxy

import (
	"errors"
	"strconv"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/breaker"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// transaction is one message, from MAIL to the end of data or a reset. It ends
// in exactly one audit event.
type transaction struct {
	id       string
	began    time.Time
	envelope smtp.Envelope // the recipients are the accepted ones
	decision policy.Decision
	denied   *policy.Decision  // a recipient that policy refused
	untried  []*relay.Pool     // relays that may still be asked
	relay    string            // the name of the one that has the transaction
	offered  []audit.Recipient // all that the client named, with their replies
	count    int               // of them, where offered is cut
	waiting  []waitingRcpt     // RCPT commands whose replies are due
	delivery delivery          // nil before the first recipient
	intake   *intake           // nil before data
	expires  time.Time         // it has a connection to the relay until then
	failure  error             // why the last relay did not take it
	refused  int               // recipients that a relay refused for good
	meter    *meter            // nil: nobody counts
	full     string            // the limit that had no room, with its budget
	opens    time.Time         // when the limit or the suspension ends that refused it
	parked   spool.Progress    // what the hold will say, if it goes there
	outcome  result            // what the client was told last
}

// waitingRcpt is a recipient that goes to the relay with those behind it, or a
// reply that must wait for its turn.
type waitingRcpt struct {
	rcpt  smtp.Recipient
	reply smtp.Reply // if judged here already
}

// mail is RFC 5321 section 4.1.1.2. Policy judges the sender; the relay hears
// of it with the first recipient.
func (s *session) mail(c smtp.Command) {
	s.refresh()
	path, params, err := smtp.ParseMail(c.Arg, s.mailCapabilities())
	if err != nil {
		s.refuseSyntax(err)
		return
	}
	s.begin(path, params)
	if refusal := s.judgeMail(); refusal.Code != 0 {
		if refusal.Permanent() || s.penance() {
			s.endRefused(refusal)
		}
		return
	}
	if !s.slowDown() {
		return
	}
	s.state = stateMail
	s.reply(250, smtp.EnhancedCode{2, 1, 0}, "sender ok")
}

// refresh puts the settings of now in force for the transaction that begins: who
// keeps a session open keeps no rule and no limit with it, and no account that is
// gone, has another password or no longer the certificate.
func (s *session) refresh() {
	now := s.server.settings.Load()
	if now == s.settings {
		return
	}
	if s.account != "" && !now.Accounts.Keeps(s.settings.Accounts, s.login) {
		s.logOut()
	}
	s.settings = now
	s.senderChanged()
}

// judgeMail is what we have against the transaction as it begins; the zero reply
// is nothing.
func (s *session) judgeMail() (refusal smtp.Reply) {
	t := s.transaction
	if by, is := s.server.warden.suspension(s.keys(), s.transaction.began); is {
		return s.mark(s.suspended(by))
	}
	switch t.decision = s.judgeSender(t.envelope.ReversePath); t.decision.Result {
	case policy.Allow:
	case policy.Hold:
		s.park(spool.HoldRule, ruled(t.decision))
	default:
		return s.denial(t.decision)
	}
	if refusal = s.openMeter(); refusal.Code != 0 {
		return s.mark(refusal)
	}
	return smtp.Reply{}
}

// mailCapabilities are those that were announced: none after HELO (RFC 5321
// section 4.1.1.1), where only SIZE is still honoured.
func (s *session) mailCapabilities() smtp.Capabilities {
	caps := s.settings.capabilities()
	if !s.extended {
		return smtp.Capabilities{MaxSize: caps.MaxSize}
	}
	return caps
}

func (s *session) begin(path string, params smtp.MailParams) {
	now := time.Now()
	s.transaction = &transaction{
		id: spool.NewID(now), began: now,
		envelope: smtp.Envelope{ReversePath: path, Params: params},
	}
}

// ruled is the reason with the rule that gave it.
func ruled(d policy.Decision) string {
	if d.Rule == "" {
		return d.Reason
	}
	return d.Reason + " (rule " + strconv.Quote(d.Rule) + ")"
}

// mark puts the transaction's id behind the text, so that the reply leads to
// the event.
func (s *session) mark(reply smtp.Reply) smtp.Reply {
	lines := append([]string(nil), reply.Lines...)
	last := "[smtpwall " + s.transaction.id + "]"
	if n := len(lines); n > 0 {
		lines[n-1] += " " + last
	} else {
		lines = []string{last}
	}
	reply.Lines = lines
	return reply
}

func (s *session) refuseSyntax(err error) {
	var syntax *smtp.SyntaxError
	if errors.As(err, &syntax) {
		s.refuseWith(syntax.Reply)
	}
}

// endRefused ends the transaction with a refusal of ours.
func (s *session) endRefused(reply smtp.Reply) {
	s.transaction.outcome.reply = reply
	s.dropTransaction(nil)
	s.refuseWith(reply)
}

// Why a transaction ended without a message, for its event.
var (
	errReset       = errors.New("the client sent RSET")
	errNewGreeting = errors.New("the client sent EHLO or HELO")
	errQuit        = errors.New("the client sent QUIT before the end of data")
	errLeft        = errors.New("the client closed the connection before the end of data")
	errSlow        = errors.New("the message did not come in time")
	errShutdown    = errors.New("smtpwall is shutting down")
	errSuspended   = errors.New("the identity was suspended")
)

// dropTransaction ends the transaction, if there is one, and writes its event.
// why is for a transaction that came to no end of its own.
func (s *session) dropTransaction(why error) {
	t := s.transaction
	if t == nil {
		return
	}
	s.transaction = nil
	if s.state != stateConnected {
		s.state = stateGreeted
	}
	if t.outcome.err == nil {
		t.outcome.err = why
	}
	if t.outcome.custody == "" {
		t.outcome.custody = audit.CustodyClient
	}
	s.countEmpty(t)
	for _, w := range t.waiting { // they will have no reply
		t.note(w.rcpt, 0)
	}
	defer s.closeAccount(t)
	if t.intake != nil {
		t.intake.drop()
	}
	if t.delivery != nil {
		t.delivery.abort()
	}
}

// maxEmpty is how many transactions without a recipient a session may begin
// between two messages. Each writes an event, and costs who begins it nothing.
const maxEmpty = 100

// countEmpty counts a transaction that named nobody, as an error if there are too
// many.
func (s *session) countEmpty(t *transaction) {
	if t.count > 0 || len(t.waiting) > 0 {
		return
	}
	if s.empty++; s.empty > maxEmpty {
		s.countError()
	}
}

// closeAccount settles what the transaction has claimed, tells the breakers of
// it, and writes its event.
func (s *session) closeAccount(t *transaction) {
	now := time.Now()
	t.closeMeter(now)
	if t.outcome.taken() {
		s.server.warden.sent(s.keys().Identity, now, t.traits())
	}
	if accepted, refused := t.verdicts(); accepted+refused > 0 {
		s.server.warden.answered(s.keys().Identity, now, accepted, refused)
	}
	s.writeTransactionEvent(t)
}

// traits are what the breakers look at.
func (t *transaction) traits() breaker.Message {
	m := breaker.Message{Sender: t.envelope.ReversePath, Recipients: len(t.envelope.Recipients)}
	if t.intake != nil && t.intake.digesting {
		m.Body = t.intake.digest.Sum()
	}
	return m
}

// verdicts are how many recipients a relay has taken, and how many it has refused
// for good.
func (t *transaction) verdicts() (accepted, refused int) {
	refused = t.refused
	if t.outcome.relay != "" && t.outcome.reply.Permanent() {
		refused += len(t.envelope.Recipients)
	}
	return t.outcome.accepted, refused
}
