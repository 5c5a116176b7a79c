package testkit

import (
	"slices"
	"strconv"
	"strings"
)

// command carries out one line.
func (s *session) command(line string) effect {
	verb, arg, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO", "HELO":
		return s.greet(strings.ToUpper(verb), arg, line)
	case "STARTTLS":
		return s.startTLS(line)
	case "AUTH":
		return s.authenticate(arg, line)
	case "MAIL":
		return s.mail(arg, line)
	case "RCPT":
		return s.rcpt(arg, line)
	case "DATA":
		return s.data(line)
	case "BDAT":
		return s.bdat(arg, line)
	case "RSET":
		s.transaction = nil
		return s.step(StepRset, line, "250 2.0.0 Ok")
	case "NOOP":
		return s.step(StepNoop, line, "250 2.0.0 Ok")
	case "VRFY":
		return s.refuse("252 2.1.5 send some mail, I'll try my best")
	case "HELP":
		return s.refuse("214 2.0.0 a stand-in relay for tests")
	case "QUIT":
		s.step(StepQuit, line, "221 2.0.0 Bye")
		return over
	}
	return s.refuse("500 5.5.2 unknown command")
}

func (s *session) refuse(text string) effect {
	s.reply(text)
	return refused
}

func (s *session) greet(verb, arg, line string) effect {
	text := "250 " + s.relay.opts.Name
	if verb == "EHLO" {
		text = s.ehloReply()
	}
	result := s.step(StepHello, line, text)
	if result == proceed {
		s.hello, s.helloArg, s.transaction = verb, arg, nil
	}
	return result
}

func (s *session) ehloReply() string {
	lines := append([]string{s.relay.opts.Name}, s.relay.extensions...)
	if !s.tls && s.relay.offers("STARTTLS") {
		lines = append(lines, "STARTTLS")
	}
	if s.offersAuth() {
		lines = append(lines, "AUTH "+strings.Join(s.relay.opts.Mechanisms, " "))
	}
	last := len(lines) - 1
	var text strings.Builder
	for _, line := range lines[:last] {
		text.WriteString("250-" + line + "\r\n")
	}
	return text.String() + "250 " + lines[last]
}

func (s *session) offersAuth() bool {
	return s.relay.opts.Username != "" && s.relay.offers("AUTH") && (s.tls || s.relay.opts.AuthWithoutTLS)
}

func (s *session) startTLS(line string) effect {
	if s.tls || !s.relay.offers("STARTTLS") {
		return s.refuse("502 5.5.1 STARTTLS not offered")
	}
	result := s.step(StepSTARTTLS, line, "220 2.0.0 Ready to start TLS")
	if result != proceed {
		return result
	}
	if s.flush() != nil {
		return over
	}
	return s.handshake()
}

func (s *session) mail(arg, line string) effect {
	path, params, ok := parsePath(arg, "FROM:")
	switch {
	case s.hello == "":
		return s.refuse("503 5.5.1 EHLO first")
	case s.transaction != nil:
		return s.refuse("503 5.5.1 nested MAIL")
	case s.relay.opts.RequireTLS && !s.tls:
		return s.refuse("530 5.7.0 STARTTLS first")
	case s.relay.opts.RequireAuth && s.authUser == "":
		return s.refuse("530 5.7.0 AUTH first")
	case !ok:
		return s.refuse("501 5.5.4 MAIL FROM:<reverse-path>")
	}
	if text := s.judgeMail(params); text != "" {
		return s.refuse(text)
	}
	result := s.step(StepMail, line, "250 2.1.0 Ok")
	if result == proceed {
		s.transaction = newTransaction(s, path, params)
	}
	return result
}

// judgeMail refuses parameters of extensions that are not offered, and a
// declared size that is too large.
func (s *session) judgeMail(params []string) string {
	for _, param := range params {
		name, value, _ := strings.Cut(param, "=")
		needs := extensionOf(strings.ToUpper(name))
		if needs == "" || s.hello != "EHLO" || !s.relay.offers(needs) {
			return "555 5.5.4 parameter not offered: " + name
		}
		if needs != "SIZE" {
			continue
		}
		if size, err := strconv.ParseInt(value, 10, 64); err != nil || size > s.relay.opts.MaxSize {
			return "552 5.3.4 message too big"
		}
	}
	return ""
}

// extensionOf names the extension that a parameter of MAIL belongs to.
func extensionOf(param string) string {
	switch param {
	case "SIZE", "SMTPUTF8", "AUTH":
		return param
	case "BODY":
		return "8BITMIME"
	case "RET", "ENVID":
		return "DSN"
	}
	return ""
}

func (s *session) rcpt(arg, line string) effect {
	path, params, ok := parsePath(arg, "TO:")
	switch {
	case s.transaction == nil:
		return s.refuse("503 5.5.1 MAIL first")
	case s.transaction.content != nil:
		return s.refuse("503 5.5.1 BDAT has begun")
	case !ok || path == "":
		return s.refuse("501 5.5.4 RCPT TO:<forward-path>")
	case slices.ContainsFunc(params, isNotDSN), len(params) > 0 && (s.hello != "EHLO" || !s.relay.offers("DSN")):
		return s.refuse("555 5.5.4 parameter not offered: " + params[0])
	}
	result := s.step(StepRcpt, line, "250 2.1.5 Ok")
	if result == proceed {
		s.transaction.message.Recipients = append(s.transaction.message.Recipients, RelayRecipient{Path: path, Params: params})
	}
	return result
}

func isNotDSN(param string) bool {
	name, _, _ := strings.Cut(param, "=")
	return !strings.EqualFold(name, "NOTIFY") && !strings.EqualFold(name, "ORCPT")
}

// parsePath splits "FROM:<path> A=1 B". A quoted local part may hold '>'.
func parsePath(arg, prefix string) (path string, params []string, ok bool) {
	if len(arg) < len(prefix) || !strings.EqualFold(arg[:len(prefix)], prefix) {
		return "", nil, false
	}
	rest := strings.TrimLeft(arg[len(prefix):], " ")
	if !strings.HasPrefix(rest, "<") {
		return "", nil, false
	}
	end := pathEnd(rest)
	if end < 0 {
		return "", nil, false
	}
	after := rest[end+1:]
	if after != "" && after[0] != ' ' {
		return "", nil, false
	}
	return rest[1:end], strings.Fields(after), true
}

func pathEnd(path string) int {
	quoted := false
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			return i
		}
	}
	return -1
}
