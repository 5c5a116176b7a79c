package proxy

import "time"

// traceField is our Received field (RFC 5321 section 4.4, RFC 3848). It tells
// strangers what class of identity we saw and no name of it: user names and
// units of a host are for its administrator, who finds them by the id.
func (s *session) traceField(t *transaction, now time.Time) []byte {
	field := make([]byte, 0, 256)
	field = append(field, "Received: from "...)
	field = append(field, s.helo...)
	field = append(field, " ("...)
	field = append(field, s.identityClass()...)
	field = append(field, ")\r\n\tby "...)
	field = append(field, s.settings.HostName...)
	field = append(field, " (smtpwall) with "...)
	field = append(field, s.protocol(t)...)
	field = append(field, " id "...)
	field = append(field, t.id...)
	field = append(field, ";\r\n\t"...)
	field = now.AppendFormat(field, time.RFC1123Z)
	return append(field, '\r', '\n')
}

func (s *session) identityClass() string {
	switch {
	case s.account != "":
		return "account"
	case !s.peer.Proven:
		return "unknown"
	case s.role == Intercepted:
		return "redirected local process"
	}
	return "local process"
}

// protocol is the "with" keyword of RFC 3848 and RFC 6531 section 4.3.
func (s *session) protocol(t *transaction) string {
	if !s.extended {
		return "SMTP"
	}
	name := "ESMTP"
	if t.envelope.Params.UTF8 {
		name = "UTF8SMTP"
	}
	if s.tls != nil {
		name += "S"
	}
	if s.account != "" {
		name += "A"
	}
	return name
}
