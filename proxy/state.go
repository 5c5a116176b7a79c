package proxy

import "github.com/smtpwall/smtpwall/proxy/smtp"

// state is where a session stands between commands (RFC 5321 section 4.1.4).
type state uint8

const (
	stateConnected state = iota // no EHLO or HELO yet, or TLS has just begun
	stateGreeted                // no transaction
	stateMail                   // MAIL was accepted, no recipient yet
	stateRcpt                   // at least one recipient was accepted
	stateChunks                 // BDAT has begun and LAST has not come
	states                      // their number
)

func (s state) String() string {
	return [...]string{"connected", "greeted", "mail", "rcpt", "chunks"}[s]
}

// command is what a verb does: check says what is wrong with it now, proceed
// carries it out and replies.
type command struct {
	// legal lists the states in which the command makes sense.
	legal [states]bool
	// elsewhere is the reply in the other states.
	elsewhere smtp.Reply
	// check, if set, looks at the argument and at the session; a reply that it
	// gives is the refusal.
	check   func(*session, smtp.Command) (smtp.Reply, bool)
	proceed func(*session, smtp.Command)
}

var (
	anyState    = [states]bool{true, true, true, true, true}
	badSequence = smtp.EnhancedCode{5, 5, 1}
	badSyntax   = smtp.EnhancedCode{5, 5, 4}
)

func in(legal ...state) (set [states]bool) {
	for _, s := range legal {
		set[s] = true
	}
	return set
}

func sequence(text string) smtp.Reply { return smtp.NewReply(503, badSequence, text) }

// newCommands is the whole grammar of a session. VerbUnknown and VerbForeign
// are not in it.
func newCommands() [smtp.Verbs]command {
	return [smtp.Verbs]command{
		smtp.EHLO:     {legal: anyState, check: checkHelo, proceed: (*session).ehlo},
		smtp.HELO:     {legal: anyState, check: checkHelo, proceed: (*session).heloOnly},
		smtp.STARTTLS: {legal: in(stateGreeted), elsewhere: sequence("STARTTLS comes after EHLO and outside a transaction"), check: checkStartTLS, proceed: (*session).startTLS},
		smtp.AUTH:     {legal: in(stateGreeted), elsewhere: sequence("AUTH comes after EHLO and outside a transaction"), check: checkAuth, proceed: (*session).authenticate},
		smtp.MAIL:     {legal: in(stateGreeted), elsewhere: sequence("MAIL comes after EHLO, once for each transaction"), proceed: (*session).mail},
		smtp.RCPT:     {legal: in(stateMail, stateRcpt), elsewhere: sequence("RCPT comes after MAIL"), proceed: (*session).rcpt},
		smtp.DATA:     {legal: in(stateRcpt), elsewhere: sequence("DATA comes after an accepted RCPT"), check: checkNoArgument, proceed: (*session).data},
		// BDAT is followed by octets in every state, so it sees to its own order.
		smtp.BDAT: {legal: anyState, proceed: (*session).bdat},
		smtp.RSET: {legal: anyState, check: checkNoArgument, proceed: (*session).rset},
		smtp.NOOP: {legal: anyState, proceed: (*session).noop},
		smtp.VRFY: {legal: anyState, check: checkArgument, proceed: (*session).vrfy},
		smtp.EXPN: {legal: anyState, check: checkArgument, proceed: (*session).expn},
		smtp.HELP: {legal: anyState, proceed: (*session).help},
		smtp.QUIT: {legal: anyState, check: checkNoArgument, proceed: (*session).quit},
	}
}

var commands = newCommands()

// carryOut finds the command and holds it to its place.
func (s *session) carryOut(c smtp.Command) {
	switch c.Verb {
	case smtp.VerbForeign:
		// A browser or a TLS client that was made to talk to us: its next
		// lines may be commands that its user never wrote.
		s.trouble = "not SMTP"
		s.hangUp(554, badSequence, "this is not an SMTP client")
		return
	case smtp.VerbUnknown:
		s.refuse(500, smtp.EnhancedCode{5, 5, 1}, "command not recognised")
		return
	}
	command := &commands[c.Verb]
	if !command.legal[s.state] {
		s.refuseWith(command.elsewhere)
		return
	}
	if command.check != nil {
		if refusal, bad := command.check(s, c); bad {
			s.refuseWith(refusal)
			return
		}
	}
	command.proceed(s, c)
}

func checkNoArgument(_ *session, c smtp.Command) (smtp.Reply, bool) {
	return smtp.NewReply(501, badSyntax, c.Verb.String()+" takes no argument"), c.Arg != ""
}

func checkArgument(_ *session, c smtp.Command) (smtp.Reply, bool) {
	return smtp.NewReply(501, badSyntax, c.Verb.String()+" needs an argument"), c.Arg == ""
}

func checkHelo(_ *session, c smtp.Command) (smtp.Reply, bool) {
	return smtp.NewReply(501, badSyntax, c.Verb.String()+" needs a domain or an address literal"), !smtp.ValidHelo(c.Arg)
}
