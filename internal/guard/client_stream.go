package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// Watch calls report with each event as it happens: the first attempt of each
// kind, drift, and changes of the mode. It has a connection of its own, and
// returns when that or ctx ends; the error is never nil. Who is slower than the
// events come misses some, which the next one's reason tells. The proxy's user
// may call it, too.
func (c *Client) Watch(ctx context.Context, report func(*audit.Event)) error {
	err := c.stream(ctx, opWatch, func(a response) {
		if a.Event != nil {
			report(a.Event)
		}
	})
	return fmt.Errorf("watching the guard: %w", err)
}

// Lookups calls report with each answer of a name server that this host, or what
// is behind it, gets over UDP while the rules redirect and note such: a DNS
// message (RFC 1035 section 4) as it came, which nobody has looked at. Whoever was
// asked could write it, and a local user can ask whomever it likes. It has a
// connection of its own, and returns when that or ctx ends; the error is never nil.
// Who is slower than the answers come misses some, and so does everybody from 1,000
// a second on. The proxy's user may call it, too. An answer is report's to keep.
func (c *Client) Lookups(ctx context.Context, report func(message []byte)) error {
	err := c.stream(ctx, opLookups, func(a response) {
		if len(a.Lookup) > 0 {
			report(a.Lookup)
		}
	})
	return fmt.Errorf("listening to the guard: %w", err)
}

// stream asks for an operation that answers any number of times.
func (c *Client) stream(ctx context.Context, op string, report func(response)) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.path)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := json.Marshal(request{Op: op})
	if err != nil {
		return err
	}
	_, unasked := conn.Write(append(line, '\n')) // fails where we were refused before
	lines := bufio.NewReader(conn)
	for {
		line, err := readLine(lines)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return errors.Join(unasked, err)
		}
		var a response
		if err := json.Unmarshal(line, &a); err != nil {
			return err
		}
		if a.Error != "" {
			return errors.New("guard: " + a.Error)
		}
		report(a)
	}
}
