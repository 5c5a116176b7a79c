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
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.path)
	if err != nil {
		return fmt.Errorf("watching the guard: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := json.Marshal(request{Op: opWatch})
	if err != nil {
		return err
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("watching the guard: %w", err)
	}
	lines := bufio.NewReader(conn)
	for {
		line, err := readLine(lines)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("watching the guard: %w", err)
		}
		var a response
		if err := json.Unmarshal(line, &a); err != nil {
			return fmt.Errorf("watching the guard: %w", err)
		}
		if a.Error != "" {
			return errors.New("guard: " + a.Error)
		}
		if a.Event != nil {
			report(a.Event)
		}
	}
}
