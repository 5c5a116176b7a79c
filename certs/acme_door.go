package certs

import (
	"errors"
	"fmt"
	"net"
	"sync"
)

// acmeDoor is where a CA's challenges are answered: by the Manager's listeners, or one of the source's own, or files
// for a web server.
type acmeDoor struct {
	presenter
	challenge string
	root      webRoot // "" is none
	port      int     // of its own; 0 is none
	nowhere   bool    // nothing listens
	server    *challengeServer

	mu     sync.Mutex
	bound  bool
	closed bool
	err    error
}

func openDoor(o ACMEOptions, parts acmeParts) *acmeDoor {
	d := &acmeDoor{presenter: parts.challenges, challenge: o.Challenge, root: webRoot(o.WebRoot), server: newChallengeServer(parts.challenges)}
	switch {
	case d.root != "":
		d.presenter = d.root
	case parts.listening:
	case o.Challenge == ChallengeHTTP:
		d.port, d.nowhere = o.HTTPPort, o.HTTPPort == 0
	case o.Challenge == ChallengeTLSALPN:
		d.port = o.TLSALPNPort // with none, the listeners for mail answer it
	}
	_ = d.ready() // what is wrong is kept
	return d
}

// ready makes sure that a challenge can be answered, before a CA is asked and counts the failure.
func (d *acmeDoor) ready() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = nil
	switch {
	case d.closed:
		d.err = net.ErrClosed
	case d.nowhere:
		d.err = errors.New("nothing listens for the CA's challenge")
	case d.root != "":
		d.err = d.root.check()
	case d.port != 0 && !d.bound:
		d.err = d.listen()
	}
	return d.err
}

// listen keeps its port for as long as the source lives: a port that somebody else has is known now and not in two
// months, when the certificate is renewed.
func (d *acmeDoor) listen() error {
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", d.port))
	if err != nil {
		return fmt.Errorf("listening for the CA's challenge: %w", err)
	}
	d.bound = true
	if d.challenge == ChallengeHTTP {
		d.server.serveHTTP(listener)
	} else {
		d.server.serveTLS(listener)
	}
	return nil
}

// problem is what the last look at it found.
func (d *acmeDoor) problem() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *acmeDoor) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.server.close()
}
