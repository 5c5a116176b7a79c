// Package fault_test proves promise 2 of the product, that nothing accepted is
// lost, against the real proxy: a child process that it kills, starves and
// feeds with errors of the file system, between clients that remember what they
// heard and relays that misbehave.
//
// It trusts the stand-in relay of internal/testkit to record what it took, and
// the clients' own ledger of what they heard. It needs root, for a small tmpfs
// in a mount namespace of its own.
//
// Each host is a child process with directories, sockets and relays of its own,
// so that tests run side by side. What a test starts it ends by its process id.
//
// The documents that the tests hold the proxy to are docs/spool-format.md and
// docs/architecture.md.
//
// Not here: the spool by itself on a simulated disk (proxy/spool), real clients
// and firewalls (test/e2e), units and restarts under systemd (test/systemd).
package fault_test

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(childVariable); config != "" {
		os.Exit(runChild(config))
	}
	os.Exit(m.Run())
}
