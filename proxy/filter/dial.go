package filter

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/emersion/go-milter"
)

// What we offer to a filter. Changes of the envelope are offered because many
// filters want them all or do not start; they are not followed. Not offered is
// what the library cannot do: to hear that the rest of a body may be skipped, to
// ask filters for their macros, to tell of refused recipients.
const (
	oldActions = milter.OptAddHeader | milter.OptChangeBody | milter.OptAddRcpt | milter.OptRemoveRcpt |
		milter.OptChangeHeader | milter.OptQuarantine
	oldProtocol = milter.OptNoConnect | milter.OptNoHelo | milter.OptNoMailFrom | milter.OptNoRcptTo | milter.OptNoBody |
		milter.OptNoHeaders | milter.OptNoEOH
	newActions  = oldActions | milter.OptChangeFrom
	newProtocol = oldProtocol | milter.OptNoUnknown | milter.OptNoData | milter.OptHeaderLeadingSpace |
		milter.OptNoHeaderReply | milter.OptNoConnReply | milter.OptNoHeloReply | milter.OptNoMailReply | milter.OptNoRcptReply |
		milter.OptNoDataReply | milter.OptNoUnknownReply | milter.OptNoEOHReply | milter.OptNoBodyReply
)

// longestPause is between two tries at a filter that is busy.
const longestPause = 100 * time.Millisecond

// open dials and agrees on a version. A filter that speaks an old one wants to
// be offered no more than that knows; it is dialled again, and remembered.
func (t *talk) open(ctx context.Context, body *replacement) error {
	old := t.filter.old.Load()
	err := t.dial(ctx, body, old)
	if !old && errors.Is(err, milter.ErrUnsupportedMilterVersion) {
		if err = t.dial(ctx, body, true); err == nil {
			t.filter.old.Store(true)
		}
	}
	return err
}

func (t *talk) dial(ctx context.Context, body *replacement, old bool) error {
	conn, err := t.filter.reach(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	t.link = newLink(conn, t.filter.options.Timeout, body)
	options := milter.ClientOptions{Dialer: reached{t.link}, ActionMask: newActions, ProtocolMask: newProtocol}
	if old {
		options.ActionMask, options.ProtocolMask = oldActions, oldProtocol
	}
	if t.session, err = milter.NewClientWithOptions("", "", options).Session(); err != nil {
		_ = conn.Close() // the library leaves it open
		return err
	}
	t.leading = !old && t.session.ProtocolOption(milter.OptHeaderLeadingSpace)
	return nil
}

// reached gives the library a connection that is made: its Dialer knows no context.
type reached struct{ link *link }

// Dial gives the connection, whatever the address.
func (r reached) Dial(string, string) (net.Conn, error) { return r.link, nil }

// reach connects to the filter. A Unix socket whose queue is full says so at
// once (EAGAIN), unlike TCP: that filter is busy and not away, and nobody may
// come past it by keeping it so.
func (f *Filter) reach(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, f.options.Timeout)
	defer cancel()
	var dialer net.Dialer
	for pause := time.Millisecond; ; pause = min(2*pause, longestPause) {
		conn, err := dialer.DialContext(ctx, f.options.Network, f.options.Address)
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
			return nil, &localError{err}
		case !errors.Is(err, syscall.EAGAIN):
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}
