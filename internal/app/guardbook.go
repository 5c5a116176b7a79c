package app

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
)

// GuardSocket is where the guard answers: in the runtime directory that the
// manager gave us, or in the packaged one.
func GuardSocket() string {
	directory := os.Getenv("RUNTIME_DIRECTORY")
	if directory == "" {
		directory = "/run/smtpwall"
	}
	return filepath.Join(directory, "guard.sock")
}

// noBook knows no guard.
type noBook struct{}

func (noBook) Addresses(context.Context, string) ([]netip.AddrPort, error) { return nil, errNoGuard }

// guardBook asks the guard, which is the one that knows what the kernel lets
// through.
type guardBook struct{ path string }

func newGuardBook(path string) guardBook { return guardBook{path} }

func (b guardBook) Addresses(ctx context.Context, relay string) ([]netip.AddrPort, error) {
	if _, err := os.Stat(b.path); err != nil {
		return nil, errNoGuard
	}
	return nil, errNoGuard
}

func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}
