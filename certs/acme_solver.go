package certs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// The CA tells in its answers which name a challenge is for. What is done for it, with a key to a zone or by a program
// that may be a shell script, is done for the name in our own order or not at all.

// ownSolver is the solver of dns-01 for one name.
type ownSolver struct {
	acmez.Solver
	name string // without "*."
}

var _ interface {
	acmez.Solver
	acmez.Waiter
} = ownSolver{}

// Present refuses a challenge for another name.
func (s ownSolver) Present(ctx context.Context, challenge acme.Challenge) error {
	challenge, err := own(challenge, s.name)
	if err == nil {
		err = s.Solver.Present(ctx, challenge)
	}
	return plain(err)
}

// Wait waits until the record is seen.
func (s ownSolver) Wait(ctx context.Context, challenge acme.Challenge) error {
	challenge, err := own(challenge, s.name)
	if waiter, ok := s.Solver.(acmez.Waiter); ok && err == nil {
		err = waiter.Wait(ctx, challenge)
	}
	return plain(err)
}

// CleanUp undoes what Present did.
func (s ownSolver) CleanUp(ctx context.Context, challenge acme.Challenge) error {
	challenge, err := own(challenge, s.name)
	if err != nil {
		return nil // Present did nothing
	}
	return s.Solver.CleanUp(ctx, challenge)
}

// ownPresenter is where challenges for any of the names are answered.
type ownPresenter struct {
	presenter
	names []string
}

// Present refuses a challenge for another name.
func (p ownPresenter) Present(challenge acme.Challenge) error {
	challenge, err := own(challenge, p.names...)
	if err == nil {
		err = p.presenter.Present(challenge)
	}
	return plain(err)
}

// own is the challenge with our own writing of its name.
func own(challenge acme.Challenge, names ...string) (acme.Challenge, error) {
	name := lowerASCII(strings.TrimSuffix(challenge.Identifier.Value, "."))
	if challenge.Identifier.Type != "dns" || !slices.Contains(names, name) {
		return challenge, fmt.Errorf("the CA gave a challenge for the name %.100q, which was not asked for", challenge.Identifier.Value)
	}
	challenge.Identifier.Value = name
	return challenge, nil
}

func plain(err error) error {
	if err == nil {
		return nil
	}
	return plainError{err}
}
