package testkit

import (
	"net"
	"sync"
	"time"
)

// delayConn lets each write leave some time after it was made: the round trip
// of a long wire, without holding up what is read meanwhile.
type delayConn struct {
	net.Conn
	delay time.Duration
	queue chan delayedWrite
	done  <-chan struct{}
	once  sync.Once
}

type delayedWrite struct {
	due  time.Time
	data []byte
}

// newDelayConn starts the goroutine that writes; it ends after Close, and the
// relay waits for it.
func newDelayConn(conn net.Conn, delay time.Duration, relay *Relay) *delayConn {
	d := &delayConn{Conn: conn, delay: delay, queue: make(chan delayedWrite, 64), done: relay.done}
	relay.serving.Add(1)
	go func() {
		defer relay.serving.Done()
		d.run()
	}()
	return d
}

func (d *delayConn) Write(b []byte) (int, error) {
	d.queue <- delayedWrite{due: time.Now().Add(d.delay), data: append([]byte(nil), b...)}
	return len(b), nil
}

// Close closes the connection once everything written has left.
func (d *delayConn) Close() error {
	d.once.Do(func() { close(d.queue) })
	return nil
}

func (d *delayConn) run() {
	defer d.Conn.Close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for write := range d.queue {
		timer.Reset(time.Until(write.due))
		select {
		case <-timer.C:
		case <-d.done:
			continue // the connection is closed already: drain
		}
		d.Conn.Write(write.data) // an error shows at the reader
	}
}
