package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/guard"
)

// GuardSocket is where the guard answers: in the runtime directory that the
// manager gave us, or in the packaged one.
func GuardSocket() string {
	if directory := os.Getenv("RUNTIME_DIRECTORY"); directory != "" {
		return filepath.Join(directory, filepath.Base(guard.SocketPath))
	}
	return guard.SocketPath
}

// noBook knows no guard.
type noBook struct{}

func (noBook) Addresses(context.Context, string) ([]netip.AddrPort, error) { return nil, errNoGuard }

// guardBook asks the guard, which is the one that knows what the kernel lets
// through.
type guardBook struct{ client *guard.Client }

func newGuardBook(path string, log *zap.Logger) guardBook {
	return guardBook{guard.NewClient(path, log)}
}

// Times of a question for a relay that the guard has just heard of: its first
// look-up of the name is under way.
const (
	firstLookup = 10 * time.Second
	askAgain    = 20 * time.Millisecond
)

// Addresses is addressBook. Right after a start or a reload it waits for what the
// guard finds out: mail that was held would wait for the next try otherwise.
func (b guardBook) Addresses(ctx context.Context, relay string) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, firstLookup)
	defer cancel()
	for {
		addresses, err := b.ask(ctx, relay)
		if err != nil || len(addresses) > 0 {
			return addresses, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the guard to find the relay's addresses: %w", ctx.Err())
		case <-time.After(askAgain):
		}
	}
}

// ask gives no address and no error while the guard is looking for some.
func (b guardBook) ask(ctx context.Context, relay string) ([]netip.AddrPort, error) {
	relays, err := b.client.Relays(ctx)
	switch {
	case isAbsent(err):
		return nil, errNoGuard
	case err != nil:
		return nil, fmt.Errorf("asking the guard for the relay's addresses: %w", err)
	}
	for _, known := range relays {
		if known.Name != relay {
			continue
		}
		if len(known.Addresses) == 0 && known.Error != "" {
			return nil, errors.New(known.Error)
		}
		return known.Addresses, nil
	}
	return nil, fmt.Errorf("the guard does not know relay %q yet: reload smtpwall-guard.service", relay)
}

// isAbsent says that nobody answers as the guard, or not for us: then the
// firewall decides alone whether an address can be reached.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrPermission)
}
