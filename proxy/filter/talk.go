package filter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/emersion/go-milter"
	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// maxFieldSize is how long a field may be that a filter is told of: libmilter
// takes packets of 64 KiB, and hangs up at longer ones.
const maxFieldSize = milter.MaxBodyChunk - 256

// chunks are buffers for a part of a body.
var chunks = sync.Pool{New: func() any { return new([milter.MaxBodyChunk]byte) }}

// talk is one conversation about one message.
type talk struct {
	filter  *Filter
	message *Message
	session *milter.ClientSession
	link    *link
	section section
	leading bool // fields are told with the space after their colon
}

// ask has the whole conversation. An error that is not a localError is the filter's.
func (f *Filter) ask(ctx context.Context, m *Message) (Verdict, error) {
	t := &talk{filter: f, message: m, section: parseSection(m.Header)}
	if name, bad := t.section.tooLong(); bad {
		return Verdict{
			Action: Reject, Reason: "field " + name + " is too long for a filter",
			Reply: smtp.NewReply(552, smtp.EnhancedCode{5, 3, 4}, "header field "+name+" is too long"),
		}, nil
	}
	body := &replacement{dir: f.options.TempDir, max: f.options.MaxMessage}
	if err := t.open(ctx, body); err != nil {
		return Verdict{}, err
	}
	defer t.link.Conn.Close()
	defer context.AfterFunc(ctx, func() { _ = t.link.Conn.Close() })()
	verdict, err := t.hold()
	if verdict.Body == nil {
		body.discard()
	}
	if err == nil {
		_ = t.session.Close() // says good-bye; that is politeness
	}
	return verdict, err
}

// hold tells the filter of the message, step by step, until it says how that
// ends.
func (t *talk) hold() (Verdict, error) {
	for _, step := range []func() (*milter.Action, error){t.connect, t.helo, t.mail, t.recipients, t.header, t.body} {
		act, err := step()
		if err != nil {
			return Verdict{}, err
		}
		if act.Code != milter.ActContinue {
			return t.filter.outright(act)
		}
	}
	return t.end()
}

func (t *talk) connect() (*milter.Action, error) {
	if err := t.macros(milter.CodeConn, t.message.connectMacros()); err != nil {
		return nil, err
	}
	name, addr := t.message.client()
	return t.session.Conn(oneString(name), family(addr), 0, addr.String())
}

func (t *talk) helo() (*milter.Action, error) {
	if err := t.macros(milter.CodeHelo, t.message.heloMacros()); err != nil {
		return nil, err
	}
	return t.session.Helo(oneString(t.message.helo()))
}

func (t *talk) mail() (*milter.Action, error) {
	if err := t.macros(milter.CodeMail, t.message.mailMacros()); err != nil {
		return nil, err
	}
	return t.session.Mail(oneString(t.message.Envelope.ReversePath), t.message.mailArgs())
}

// recipients tells of all of them. What a filter says to one is said to the
// message: by now the client waits for one answer.
func (t *talk) recipients() (*milter.Action, error) {
	for _, rcpt := range t.message.Envelope.Recipients {
		if err := t.macros(milter.CodeRcpt, rcptMacros(rcpt)); err != nil {
			return nil, err
		}
		act, err := t.session.Rcpt(oneString(rcpt.Address), rcptArgs(rcpt))
		if err != nil || act.Code != milter.ActContinue {
			return act, err
		}
	}
	return &milter.Action{Code: milter.ActContinue}, nil
}

func (t *talk) header() (*milter.Action, error) {
	for _, f := range t.section.fields {
		act, err := t.session.HeaderField(f.name, f.value(t.leading))
		if err != nil || act.Code != milter.ActContinue {
			return act, err
		}
	}
	if err := t.macros(milter.CodeEOH, t.message.idMacros()); err != nil {
		return nil, err
	}
	return t.session.HeaderEnd()
}

func (t *talk) body() (*milter.Action, error) {
	goOn := &milter.Action{Code: milter.ActContinue}
	if t.session.ProtocolOption(milter.OptNoBody) {
		return goOn, nil
	}
	var source io.Reader = bytes.NewReader(t.section.hidden())
	if t.message.Body != nil {
		source = io.MultiReader(source, t.message.Body)
	}
	chunk := chunks.Get().(*[milter.MaxBodyChunk]byte)
	defer chunks.Put(chunk)
	for {
		n, err := io.ReadFull(source, chunk[:])
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return nil, &localError{fmt.Errorf("reading the message: %w", err)}
		}
		if n == 0 {
			return goOn, nil
		}
		act, err := t.session.BodyChunk(chunk[:n])
		if err != nil || act.Code != milter.ActContinue {
			return act, err
		}
	}
}

// end hears the filter's changes and its last word.
func (t *talk) end() (Verdict, error) {
	if err := t.macros(milter.CodeEOB, t.message.idMacros()); err != nil {
		return Verdict{}, err
	}
	t.link.ending = true
	changes, act, err := t.session.End()
	if err != nil {
		return Verdict{}, err
	}
	verdict, err := t.filter.outright(act)
	if err != nil || verdict.Action != Accept {
		return verdict, err
	}
	return t.apply(verdict, changes)
}

// macros tells values that belong to the next command.
func (t *talk) macros(code milter.Code, pairs []string) error {
	if len(pairs) == 0 {
		return nil
	}
	for i, value := range pairs {
		pairs[i] = oneString(value)
	}
	return t.session.Macros(code, pairs...)
}

// apply makes the changes.
func (t *talk) apply(verdict Verdict, changes []milter.ModifyAction) (Verdict, error) {
	for i := range changes {
		change := &changes[i]
		switch change.Code {
		case milter.ActQuarantine:
			verdict.Action, verdict.Reason = Quarantine, printable(change.Reason, maxReplyText)
			if verdict.Reason == "" {
				verdict.Reason = "quarantined by filter"
			}
		case milter.ActAddRcpt, milter.ActDelRcpt, milter.ActChangeFrom:
			t.ignore(change)
		default:
			changed, err := t.section.apply(change, t.leading)
			if err != nil {
				return Verdict{}, err
			}
			verdict.Changed = verdict.Changed || changed
		}
	}
	if t.link.body.given {
		var err error
		if verdict.Body, verdict.BodySize, err = t.link.body.finish(); err != nil {
			return Verdict{}, err
		}
		verdict.Changed = true
	}
	if verdict.Changed {
		verdict.Header = t.section.bytes(verdict.Body != nil)
	}
	return verdict, nil
}

// ignore tells of a change that policy would not have decided about.
func (t *talk) ignore(change *milter.ModifyAction) {
	what := map[milter.ModifyActCode]string{
		milter.ActAddRcpt: "add recipient", milter.ActDelRcpt: "remove recipient", milter.ActChangeFrom: "change sender",
	}[change.Code]
	t.filter.log.Warn("filter wants another envelope, which is not followed", zap.String(logfields.Txn, t.message.ID),
		zap.String("change", what), zap.String(logfields.Address, printable(change.Rcpt+change.From, maxReplyText)))
}
