package app

import (
	"context"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/certs/lookup"
	"github.com/smtpwall/smtpwall/internal/guard"
)

// lookups are the names by which this host looked addresses up, as the guard
// overhears it: who dials an address and does not say which name
// it means is shown a certificate for those.
type lookups struct {
	table *lookup.Table
	log   *zap.Logger
}

func newLookups(log *zap.Logger) *lookups {
	return &lookups{table: lookup.New(lookup.Options{}), log: log}
}

// names of an address, the newest first.
func (l *lookups) names(address netip.Addr) []string { return l.table.Names(address, time.Now()) }

// listen notes what the guard hears, until ctx ends. An older guard, or one that
// is told to ignore it, has nothing to say.
func (l *lookups) listen(ctx context.Context, path string) {
	client := guard.NewClient(path, l.log)
	defer func() { _ = client.Close() }() // it was only read from
	for ctx.Err() == nil {
		_ = client.Lookups(ctx, l.note) // away: tried again
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
}

// note takes one answer of a name server, which a stranger wrote.
func (l *lookups) note(message []byte) {
	if err := l.table.Note(message, time.Now()); err != nil {
		l.log.Debug("answer of a name server makes no sense", zap.Error(err))
	}
}
