package relay

import (
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// appendMail writes MAIL with the parameters that this relay knows.
func appendMail(dst []byte, reversePath string, params smtp.MailParams, caps Capabilities) []byte {
	dst = append(dst, "MAIL FROM:<"...)
	dst = append(dst, reversePath...)
	dst = append(dst, '>')
	if params.Body != "" && caps.EightBitMIME {
		dst = append(append(dst, " BODY="...), params.Body...)
	}
	if params.UTF8 {
		dst = append(dst, " SMTPUTF8"...)
	}
	if params.Ret != "" && caps.DSN {
		dst = append(append(dst, " RET="...), params.Ret...)
	}
	if params.EnvID != "" && caps.DSN {
		dst = append(append(dst, " ENVID="...), params.EnvID...)
	}
	return append(dst, '\r', '\n')
}

func appendRcpt(dst []byte, rcpt smtp.Recipient, caps Capabilities) []byte {
	dst = append(dst, "RCPT TO:<"...)
	dst = append(dst, rcpt.Address...)
	dst = append(dst, '>')
	if rcpt.Params.Notify != "" && caps.DSN {
		dst = append(append(dst, " NOTIFY="...), rcpt.Params.Notify...)
	}
	if rcpt.Params.ORcpt != "" && caps.DSN {
		dst = append(append(dst, " ORCPT="...), rcpt.Params.ORcpt...)
	}
	return append(dst, '\r', '\n')
}

// flight is the commands that go out together.
type flight struct {
	commands []byte
	ends     []int // of each command, in commands
}

func (f *flight) start() { f.commands, f.ends = f.commands[:0], f.ends[:0] }

// line is where the next command is appended; add takes the result.
func (f *flight) line() []byte { return f.commands }

func (f *flight) add(commands []byte) {
	f.commands = commands
	f.ends = append(f.ends, len(commands))
}

// send writes the commands, at once where the relay allows it (RFC 2920), and
// reads a reply for each. More replies than commands is an error: the next
// transaction would take them for its own.
func (f *flight) send(c *conn, timeout time.Duration) ([]smtp.Reply, error) {
	_ = c.SetDeadline(time.Now().Add(timeout))
	replies := make([]smtp.Reply, 0, len(f.ends))
	from := 0
	for i, end := range f.ends {
		if c.capabilities.Pipelining {
			end = len(f.commands)
		}
		if from < end {
			if len(c.reader.Unread()) > 0 {
				return nil, errExtraReply
			}
			if _, err := c.Write(f.commands[from:end]); err != nil {
				return nil, err
			}
			from = end
		}
		reply, err := smtp.ReadReply(c.reader)
		if err != nil {
			return nil, why(replies, err)
		}
		replies = append(replies, reply)
		if i == len(f.ends)-1 && len(c.reader.Unread()) > 0 {
			return nil, errExtraReply
		}
	}
	return replies, nil
}

// why is the reason for which no more replies came: a relay that says 421 closes
// without an answer to what else it was sent (RFC 5321 section 3.8).
func why(replies []smtp.Reply, err error) error {
	if n := len(replies); n > 0 && replies[n-1].Code == 421 {
		return &refusal{replies[n-1]}
	}
	return closedIfEOF(err)
}
