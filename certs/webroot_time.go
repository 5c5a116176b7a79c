package certs

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// webRootTime is what the web root's file system has for one challenge.
const webRootTime = 3 * time.Second

var errWebRootSilent = errors.New("the web root's file system does not answer")

// rootFiles is a webRoot.
type rootFiles interface {
	presenter
	check() error
	sweep() error
}

// timedRoot waits for a web root that may never answer: a network file system without its server, or one in user space
// of whoever owns the web root. One goroutine is in there at a time, so one is what such a file system keeps.
type timedRoot struct {
	files rootFiles
	time  time.Duration
	turn  chan struct{} // of capacity 1
	stuck atomic.Bool   // who has the turn has not come back in time
}

func newTimedRoot(files rootFiles) *timedRoot {
	return &timedRoot{files: files, time: webRootTime, turn: make(chan struct{}, 1)}
}

func (r *timedRoot) Present(challenge acme.Challenge) error {
	return r.do(func() error { return r.files.Present(challenge) }, func() { _ = r.files.CleanUp(challenge) })
}

func (r *timedRoot) CleanUp(challenge acme.Challenge) error {
	return r.do(func() error { return r.files.CleanUp(challenge) }, nil)
}

func (r *timedRoot) check() error { return r.do(r.files.check, nil) }
func (r *timedRoot) sweep() error { return r.do(r.files.sweep, nil) }

// do works in a goroutine of its own, which ends when the file system answers; undo is for work that nobody waited for
// to the end, and may be nil.
func (r *timedRoot) do(work func() error, undo func()) error {
	timer := time.NewTimer(r.time)
	defer timer.Stop()
	if r.stuck.Load() {
		return errWebRootSilent
	}
	select {
	case r.turn <- struct{}{}:
	case <-timer.C:
		return errWebRootSilent
	}
	done := make(chan error, 1)
	var over atomic.Bool // whoever sets it first decides
	go func() {
		err := work()
		if !over.CompareAndSwap(false, true) {
			if err == nil && undo != nil {
				undo()
			}
			r.stuck.Store(false)
		}
		<-r.turn
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-timer.C:
	}
	r.stuck.Store(true)
	if over.CompareAndSwap(false, true) {
		return errWebRootSilent
	}
	r.stuck.Store(false)
	return <-done
}
