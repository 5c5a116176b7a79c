package certs

import (
	"context"
	"errors"
	"fmt"
)

// Renew gets new certificates for the names, each the Name of a Certificate, or for all without any: from a CA at once,
// however long the old one is good for, from the local CA, and from files by reading them. It returns when each is there
// or has failed, with the CA's words. Where a CA is asked already it waits for that; within ten minutes of the last that
// came by it, a CA is asked for no other. When ctx ends it returns with that error, and what was begun goes on.
func (m *Manager) Renew(ctx context.Context, names ...string) error {
	tasks, err := m.renewals(names)
	if err != nil {
		return err
	}
	results := make(chan error, len(tasks))
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return errors.New("renewing certificates after Close")
	}
	for _, task := range tasks {
		m.work.Go(func() { results <- task(ctx) })
	}
	m.mu.Unlock()
	var errs []error
	for range tasks {
		select {
		case err := <-results:
			errs = append(errs, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.Join(errs...)
}

// renewals are what to do for the names, none of them twice. The host's name may be that of two certificates.
func (m *Manager) renewals(names []string) ([]func(context.Context) error, error) {
	g := m.current.Load()
	bySource := map[string]func(context.Context) error{}
	if g.source != nil {
		bySource = g.source.renewals()
	}
	var tasks []func(context.Context) error
	if len(names) == 0 {
		for _, task := range bySource {
			tasks = append(tasks, task)
		}
		return append(tasks, g.renewLocal), nil
	}
	var errs []error
	chosen := map[string]bool{}
	for _, name := range names {
		task := bySource[name]
		if chosen[name] {
			continue
		}
		chosen[name] = true
		if task != nil {
			tasks = append(tasks, task)
		}
		if name == g.managed.subject {
			tasks = append(tasks, g.renewLocal)
		} else if task == nil {
			errs = append(errs, fmt.Errorf("no certificate by the name %q", name))
		}
	}
	return tasks, errors.Join(errs...)
}

// renewLocal is not waited for by anybody else, and takes milliseconds.
func (g *generation) renewLocal(ctx context.Context) error {
	return g.managed.renew(context.WithoutCancel(ctx))
}

func (s *acmeSource) renewals() map[string]func(context.Context) error {
	all := map[string]func(context.Context) error{}
	for _, n := range s.names {
		all[n.name] = n.renew
	}
	return all
}

func (f *files) renewals() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{f.status()[0].Name: func(context.Context) error { return f.reread() }}
}
