package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// findEvents gives all events of one transaction, in the order of time, out of
// the proxy's log and what logrotate made of it. Lines that cannot be read are
// told, and do not keep the rest back.
func (c *console) findEvents(ctx context.Context, directory, id string) ([]audit.Event, error) {
	var s story
	bad := 0
	for event, err := range history(ctx, logFiles(directory)[:1], idTime(id)) {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, err
		case err != nil:
			if bad++; bad <= maxLogErrors {
				fmt.Fprintf(c.err, "smtpwall: error: %s\n", visible(err.Error()))
			}
		case event.Txn == id:
			s.add(event)
		}
		if s.told() {
			break
		}
	}
	slices.SortStableFunc(s.events, func(a, b audit.Event) int { return a.Time.Compare(b.Time) })
	return s.events, ctx.Err()
}

// story is what the log has of a transaction.
type story struct {
	events       []audit.Event
	began, ended bool
}

func (s *story) add(event audit.Event) {
	switch event.Kind {
	case audit.KindTransaction:
		s.began = true
	case audit.KindDelivery:
	default:
		return
	}
	s.events = append(s.events, event)
	s.ended = s.ended || event.Custody != audit.CustodySpool
}

// told says that no more can follow. A message of the spool may be delivered
// before the session has written of its end.
func (s *story) told() bool { return s.began && s.ended }

// crockford is the alphabet of ids.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// isID says whether text can be the id of a transaction: a ULID.
func isID(text string) bool {
	return len(text) == 26 && strings.Trim(text, crockford) == ""
}

// idTime is when an id was made, which is in its first ten digits, less an hour
// for a clock that was set back.
func idTime(id string) time.Time {
	var milliseconds int64
	for _, digit := range id[:10] {
		milliseconds = milliseconds<<5 | int64(strings.IndexRune(crockford, digit))
	}
	return time.UnixMilli(milliseconds).Add(-time.Hour)
}
