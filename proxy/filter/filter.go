package filter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// Defaults of Options.
const (
	DefaultTimeout    = 30 * time.Second
	DefaultMaxMessage = 50 << 20
)

// Options say where a filter is and what to do when it is away.
type Options struct {
	Name       string        // in replies and logs
	Network    string        // "unix" or "tcp"
	Address    string        // a path, or host:port
	Accept     bool          // messages pass unfiltered while it is away; else they are deferred
	Timeout    time.Duration // how long it may be silent; in all it has ten times as long
	MaxMessage int64         // octets of a body that it may put in place of another
	TempDir    string        // for such a body above 1 MiB; "" is the system's
	Logger     *zap.Logger
}

// Filter is one mail filter.
type Filter struct {
	options Options
	log     *zap.Logger
	old     atomic.Bool // it speaks an old version of the protocol

	mu    sync.Mutex
	fault error     // why it is away; nil while it is not
	since time.Time // of the first fault
}

// New makes a filter. Nothing is dialled before the first message.
func New(options Options) *Filter {
	if options.Timeout <= 0 {
		options.Timeout = DefaultTimeout
	}
	if options.MaxMessage <= 0 {
		options.MaxMessage = DefaultMaxMessage
	}
	log := options.Logger
	if log == nil {
		log = zap.NewNop()
	}
	return &Filter{options: options, log: log.Named("filter").With(zap.String(logfields.Name, options.Name))}
}

// Name is the configured one.
func (f *Filter) Name() string { return f.options.Name }

// Check asks the filter about a message. The verdict always says what to do,
// also with an error: that the filter is away (Accept unchanged or Defer, as
// configured), that the body of the message could not be read or a replaced one
// not be kept, or that ctx ended (Defer). How much of the body was read is not
// defined.
func (f *Filter) Check(ctx context.Context, m Message) (Verdict, error) {
	verdict, err := f.ask(ctx, &m)
	var ours *localError
	switch {
	case err == nil:
		f.note(nil)
		return verdict, nil
	case ctx.Err() != nil:
		return deferral("stopped while the message was filtered"), fmt.Errorf("asking filter %s: %w", f.options.Name, ctx.Err())
	case errors.As(err, &ours):
		return deferral("message could not be filtered"), fmt.Errorf("asking filter %s: %w", f.options.Name, err)
	}
	f.note(err)
	err = fmt.Errorf("asking filter %s: %w", f.options.Name, err)
	if f.options.Accept {
		return Verdict{Action: Accept, Reason: "filter is away"}, err
	}
	return deferral("filter is away"), err
}

// Condition is empty while the filter answers, else what is wrong since when.
func (f *Filter) Condition() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault == nil {
		return ""
	}
	return fmt.Sprintf("filter %s is away since %s: %v", f.options.Name, f.since.UTC().Format(time.RFC3339), f.fault)
}

// note remembers whether the filter is away, and logs when that changes.
func (f *Filter) note(fault error) {
	f.mu.Lock()
	was, since := f.fault, f.since
	if f.fault = fault; was == nil {
		f.since = time.Now()
	}
	f.mu.Unlock()
	switch {
	case was == nil && fault != nil:
		f.log.Warn("filter is away", zap.Error(fault))
	case was != nil && fault == nil:
		f.log.Info("filter is back", zap.Duration("away", time.Since(since)))
	}
}

// localError is a failure that is not the filter's.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// deferral is for a message that can be filtered later. Its public text tells
// nothing of what stands where.
func deferral(reason string) Verdict {
	return Verdict{
		Action: Defer, Reason: reason,
		Reply: smtp.NewReply(451, smtp.EnhancedCode{4, 7, 1}, "message cannot be filtered now, try again later"),
	}
}
