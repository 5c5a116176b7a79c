package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// Handshakes says how clients open sessions that carry no message.
type Handshakes struct {
	Connections int           // at the same time
	Time        time.Duration // after that no further one begins
	Version     uint16        // of TLS, the only one that is offered
	Resume      bool          // each handshake but a client's first is resumed
}

// errNotAsPlanned is a handshake that was resumed where a whole one is measured,
// or the other way round.
var errNotAsPlanned = errors.New("a resumed handshake in place of a whole one, or the reverse")

// Run makes new connections under implicit TLS one after the other: the
// handshake, the banner, and the end. Result.Latencies are from the first octet
// to the banner; nothing is sent.
func (h Handshakes) Run(ctx context.Context, target Target) Result {
	begin := time.Now()
	workers := make([]handshaker, h.Connections)
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() { workers[i].run(ctx, h, target, begin.Add(h.Time)) })
	}
	group.Wait()
	result := Result{Begin: begin, Elapsed: time.Since(begin)}
	for _, w := range workers {
		result.Latencies = append(result.Latencies, w.latencies...)
		if w.err != nil {
			result.Failed++
			result.Err = w.err
		}
	}
	slices.Sort(result.Latencies)
	return result
}

// handshaker is one of the clients.
type handshaker struct {
	latencies []time.Duration
	err       error
}

func (w *handshaker) run(ctx context.Context, h Handshakes, target Target, stop time.Time) {
	// X25519 with every server alike, as secure has it.
	config := &tls.Config{
		RootCAs: target.RootCAs, ServerName: target.ServerName, MinVersion: h.Version, MaxVersion: h.Version,
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
	}
	if h.Resume {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	for first := true; ctx.Err() == nil && time.Now().Before(stop); first = false {
		begin := time.Now()
		if w.err = greet(ctx, target.Address, config, h.Resume && !first); w.err != nil {
			return
		}
		w.latencies = append(w.latencies, time.Since(begin))
	}
}

// greet opens a session, reads the banner and leaves.
func greet(ctx context.Context, address string, config *tls.Config, resumed bool) error {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(sessionTime))
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	if conn.ConnectionState().DidResume != resumed {
		return errNotAsPlanned
	}
	c := client{conn: conn, r: bufio.NewReaderSize(conn, 512)}
	if err := c.expect('2'); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	return conn.Close()
}
