package certs

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// acmeDoor is where a CA's challenges are answered: by the Manager's listeners, or one of the source's own, or files
// for a web server.
type acmeDoor struct {
	presenter
	challenge string
	root      *timedRoot // nil is none
	port      int        // of its own; 0 is none
	nowhere   bool       // nothing listens
	server    *challengeServer

	mu     sync.Mutex
	bound  bool
	closed bool
	err    error
}

func openDoor(o ACMEOptions, parts acmeParts) *acmeDoor {
	d := &acmeDoor{presenter: parts.challenges, challenge: o.Challenge, server: newChallengeServer(parts.challenges)}
	switch {
	case o.WebRoot != "":
		d.root = newTimedRoot(webRoot(o.WebRoot))
		d.presenter = d.root
	case parts.listening:
	case o.Challenge == ChallengeHTTP:
		d.port, d.nowhere = o.HTTPPort, o.HTTPPort == 0
	case o.Challenge == ChallengeTLSALPN:
		d.port = o.TLSALPNPort // with none, the listeners for mail answer it
	}
	d.lookFirst()
	return d
}

// firstLook is what a start or a reload waits for the door; what is wrong later is found all the same.
const firstLook = time.Second

// lookFirst keeps what is wrong.
func (d *acmeDoor) lookFirst() {
	if d.root == nil {
		_ = d.ready()
		return
	}
	looked := make(chan struct{})
	go func() { // ends within two times webRootTime
		defer close(looked)
		if d.ready() == nil {
			_ = d.root.sweep()
		}
	}()
	select {
	case <-looked:
	case <-time.After(firstLook):
	}
}

// ready makes sure that a challenge can be answered, before a CA is asked and counts the failure. Who asks for the
// problem meanwhile, or closes the door, does not wait for files.
func (d *acmeDoor) ready() error {
	var err error
	if d.root != nil {
		err = d.root.check()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		err = net.ErrClosed
	case d.nowhere:
		err = errors.New("nothing listens for the CA's challenge")
	case d.port != 0 && !d.bound:
		err = d.listen()
	}
	d.err = err
	return err
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
