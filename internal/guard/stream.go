package guard

import (
	"context"
	"net"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// watch sends events as they come.
func (s *socketServer) watch(ctx context.Context, conn net.Conn) error {
	one := s.guard.watchers.join()
	defer s.guard.watchers.leave(one)
	return stream(ctx, conn, one.events, func(e audit.Event) response { return response{Event: &e} })
}

// listen sends answers of name servers as they come.
func (s *socketServer) listen(ctx context.Context, conn net.Conn) error {
	one := s.guard.lookups.join()
	defer s.guard.lookups.leave(one)
	return stream(ctx, conn, one.answers, func(answer []byte) response { return response{Lookup: answer} })
}

// stream sends items until the client leaves or ctx is done. It has nothing more
// to say to us: whatever comes from it ends the stream, as its leaving does.
func stream[T any](ctx context.Context, conn net.Conn, items <-chan T, as func(T) response) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := reply(conn, response{}); err != nil { // it has joined
		return err
	}
	conn.SetReadDeadline(time.Time{})
	gone := make(chan struct{})
	go func() { // ends with the connection, which is closed below; waited for
		defer close(gone)
		conn.Read(make([]byte, 1))
		cancel()
	}()
	defer func() {
		conn.Close()
		<-gone
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case item := <-items:
			if err := reply(conn, as(item)); err != nil {
				return err
			}
		}
	}
}
