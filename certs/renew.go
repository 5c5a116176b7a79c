package certs

import (
	"context"
	"fmt"
)

// Renew gets new certificates for the names, each the Name of a Certificate, or for all without any: from the CA at
// once, however long the old one is good for, from the local CA, and from the files by reading them. It returns when
// each is there or has failed, with the CA's words. When ctx ends it returns with that error, and what was begun goes
// on.
func (m *Manager) Renew(ctx context.Context, names ...string) error {
	g := m.current.Load()
	for _, name := range names {
		if name != g.managed.subject {
			return fmt.Errorf("no certificate by the name %q", name)
		}
	}
	return g.managed.renew(ctx)
}
