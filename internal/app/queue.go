package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// Why the proxy of this host cannot be asked or told.
var (
	// ErrNoProxy means that no proxy runs, or none that answers.
	ErrNoProxy = errors.New("no proxy is running")
	// ErrNoAdmin means that the configuration has no socket to ask it by.
	ErrNoAdmin = errors.New("listen.admin is empty")
	// ErrNotAllowed means that this user may not ask it.
	ErrNotAllowed = admin.ErrDenied
)

// answerTime is how long a proxy may take to answer at all, which may be about
// to start because we knocked.
const answerTime = 10 * time.Second

// Queue is the spool as the command line has it: by the running proxy, or else
// by its files, which can be looked at only.
type Queue struct {
	source
	why error // why it is not live
}

// source is where a Queue is from.
type source interface {
	Items(ctx context.Context, f spool.Filter, yield func(spool.Item) error) error
	Message(ctx context.Context, id string) (spool.Item, io.ReadCloser, error)
	Act(ctx context.Context, op admin.Op, f spool.Filter, done func(admin.Outcome)) error
}

// OpenQueue asks the proxy, and opens the spool's files if there is none. It
// fails with ErrNotAllowed if there is one that this user may not ask, and with
// fs.ErrNotExist or fs.ErrPermission if there are no files, or not for us.
func OpenQueue(ctx context.Context, cfg *config.Config) (*Queue, error) {
	client, why := askProxy(ctx, cfg)
	if why == nil {
		return &Queue{source: client}, nil
	}
	if !errors.Is(why, ErrNoProxy) && !errors.Is(why, ErrNoAdmin) {
		return nil, why
	}
	reader, err := spool.OpenReadOnly(cfg.Delivery.Spool)
	if err != nil {
		return nil, err
	}
	return &Queue{source: files{reader, why}, why: why}, nil
}

// Offline is why the queue is read from its files, ErrNoProxy or ErrNoAdmin; nil
// means that the proxy answers.
func (q *Queue) Offline() error { return q.why }

// ProxyStatus is the state of the proxy. It fails with ErrNoProxy, ErrNoAdmin or
// ErrNotAllowed.
func ProxyStatus(ctx context.Context, cfg *config.Config) (admin.Status, error) {
	client, err := askProxy(ctx, cfg)
	if err != nil {
		return admin.Status{}, err
	}
	return client.Status(ctx)
}

// SpoolFiles counts what the spool holds while no proxy tells. A spool that was
// never made holds nothing.
func SpoolFiles(ctx context.Context, cfg *config.Config) (admin.SpoolStatus, error) {
	status := admin.SpoolStatus{MaxBytes: cfg.Delivery.SpoolMax, ByState: map[string]int{}}
	reader, err := spool.OpenReadOnly(cfg.Delivery.Spool)
	if errors.Is(err, fs.ErrNotExist) {
		return status, nil
	}
	if err != nil {
		return status, err
	}
	err = files{reader: reader}.Items(ctx, spool.Filter{}, func(item spool.Item) error {
		status.Messages++
		status.ByState[string(item.State)]++
		status.Bytes += item.Stored
		if item.State != spool.Hold && (status.Oldest.IsZero() || item.Time.Before(status.Oldest)) {
			status.Oldest = item.Time
		}
		return nil
	})
	corrupt, corruptErr := reader.Corrupt()
	status.Corrupt = len(corrupt)
	return status, errors.Join(err, corruptErr)
}

// askProxy finds out whether a proxy answers.
func askProxy(ctx context.Context, cfg *config.Config) (*admin.Client, error) {
	if cfg.Listen.Admin == "" {
		return nil, ErrNoAdmin
	}
	return ask(ctx, admin.NewClient(cfg.Listen.Admin), cfg.Listen.Admin, answerTime)
}

func ask(ctx context.Context, client *admin.Client, path string, patience time.Duration) (*admin.Client, error) {
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := client.Alive(short)
	switch {
	case err == nil:
		return client, nil
	case errors.Is(err, admin.ErrNotRunning):
		return nil, fmt.Errorf("%w: nobody answers at %s", ErrNoProxy, path)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return nil, fmt.Errorf("%w: nobody answered at %s within %v", ErrNoProxy, path, patience)
	}
	return nil, err
}

// files is the spool while no proxy has it.
type files struct {
	reader *spool.Reader
	why    error // why nothing can be changed
}

// Items is as admin.Reader has it.
func (q files) Items(ctx context.Context, f spool.Filter, yield func(spool.Item) error) error {
	return match(ctx, q.reader, f, yield)
}

// messages are the spool, or its files.
type messages interface {
	All(states ...spool.State) iter.Seq2[spool.Item, error]
	Show(id string) (spool.Item, error)
}

// match gives the messages that a filter chooses. What cannot be read keeps none
// of the others back.
func match(ctx context.Context, from messages, f spool.Filter, yield func(spool.Item) error) error {
	var errs []error
	all, now := candidates(from, f), time.Now()
	f.IDs = nil // they are what is looked at
	for item, err := range all {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, spool.ErrUnknown):
		case err != nil:
			errs = append(errs, err)
		case f.Match(item, now):
			if err := yield(item); err != nil {
				return err
			}
		}
	}
	return errors.Join(errs...)
}

// candidates are the messages that a filter may choose: few, where it has ids.
func candidates(from messages, f spool.Filter) iter.Seq2[spool.Item, error] {
	if len(f.IDs) == 0 {
		return from.All(f.States...)
	}
	return func(yield func(spool.Item, error) bool) {
		for _, id := range f.IDs {
			if !yield(from.Show(id)) {
				return
			}
		}
	}
}

// Message is as admin.Reader has it.
func (q files) Message(_ context.Context, id string) (spool.Item, io.ReadCloser, error) {
	m, err := q.reader.Read(id)
	if err != nil {
		return spool.Item{}, nil, err
	}
	return m.Item, m, nil
}

// Act fails: the proxy alone changes the spool.
func (q files) Act(context.Context, admin.Op, spool.Filter, func(admin.Outcome)) error { return q.why }
