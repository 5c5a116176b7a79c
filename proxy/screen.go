package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/filter"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// screening is a message that is passed on when the filters have seen it.
type screening struct {
	header []byte
	body   sieve
}

func newScreening(s *session, header []byte) *screening {
	identity, max := s.keys().Identity, s.settings.TempMax
	room := func(n int64) bool {
		if n < 0 {
			s.server.attic.give(identity, -n)
			return true
		}
		return s.server.attic.take(identity, n, max)
	}
	return &screening{header: bytes.Clone(header), body: sieve{dir: s.settings.TempDir, room: room}}
}

// change takes over what a filter has made of the message. The next filter reads
// all of it, and then the delivery does.
func (m *screening) change(v filter.Verdict) error {
	m.header = v.Header
	if v.Body == nil {
		return nil
	}
	defer func() { _ = v.Body.Close() }() // it was read
	m.body.close()
	m.body = sieve{dir: m.body.dir, room: m.body.room}
	_, err := io.Copy(&m.body, v.Body)
	return err
}

func (m *screening) close() { m.body.close() }

// screen puts the message to the filters in turn, and passes on what they make of
// it.
func (in *intake) screen() result {
	m := in.screening
	defer m.close()
	ctx, cancel := context.WithTimeout(in.session.ctx, filterTime)
	defer cancel()
	for _, f := range in.session.settings.Filters {
		if !in.ask(ctx, f, m) {
			return result{reply: *in.refusal, custody: audit.CustodyClient}
		}
	}
	body, err := m.body.reader()
	if err != nil {
		return in.unscreened(err)
	}
	d := in.transaction.delivery
	d.write(in.session.traceField(in.transaction, time.Now()), true)
	d.write(m.header, false)
	buffer := dataBuffers.Get().(*[dataBuffer]byte)
	defer dataBuffers.Put(buffer)
	if _, err := io.CopyBuffer(passing{d}, onlyReader{body}, buffer[:]); err != nil {
		return in.unscreened(err)
	}
	return d.finish()
}

// filterTime is how long all filters of a message may take: clients wait ten
// minutes for the reply to the end of data (RFC 5321 section 4.5.3.2.6), and one
// that has left sends it again.
const filterTime = 8 * time.Minute

// passing writes to a delivery, whose errors come at its end.
type passing struct{ delivery }

func (p passing) Write(b []byte) (int, error) {
	p.delivery.write(b, false)
	return len(b), nil
}

// ask is false if the filter lets the message not pass. What it would have
// quarantined or dropped goes to hold: a message that was accepted is not lost.
func (in *intake) ask(ctx context.Context, f *filter.Filter, m *screening) (passes bool) {
	body, err := m.body.reader()
	if err != nil {
		in.unscreened(err)
		return false
	}
	v, err := f.Check(ctx, in.question(m.header, body))
	if err != nil {
		in.session.log.Debug("filter did not answer", zap.String(logfields.Txn, in.transaction.id), zap.Error(err))
	}
	reason := "filter " + f.Name() + ": " + v.Reason
	switch v.Action {
	case filter.Reject:
		return in.reject(policy.Deny, reason, v)
	case filter.Defer:
		return in.reject(policy.Defer, reason, v)
	case filter.Quarantine, filter.Discard:
		in.session.park(spool.HoldFilter, reason)
	}
	if !v.Changed {
		return true
	}
	if err := m.change(v); err != nil {
		in.unscreened(err)
		return false
	}
	return true
}

// reject refuses the message in the filter's words.
func (in *intake) reject(result policy.Result, reason string, v filter.Verdict) (passes bool) {
	t := in.transaction
	t.decision = policy.Decision{Result: result, Reason: reason, Rule: t.decision.Rule}
	in.refuse(v.Reply)
	return false
}

// unscreened refuses a message that could not be kept for the filters.
func (in *intake) unscreened(err error) result {
	in.transaction.outcome.err = err
	in.refuse(spoolRefusal(err))
	return result{reply: *in.refusal, custody: audit.CustodyClient, err: err}
}

// question is what a filter is told.
func (in *intake) question(header []byte, body io.Reader) filter.Message {
	s, t := in.session, in.transaction
	m := filter.Message{
		ID: t.id, HostName: s.settings.HostName, Helo: s.helo, Account: s.account,
		Client: s.peer.Remote.Addr(), Envelope: t.envelope, Header: header, Body: body,
	}
	if s.tls != nil {
		m.TLSVersion = tls.VersionName(s.tls.Version)
	}
	return m
}
