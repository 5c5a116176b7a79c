package fault_test

import (
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"time"
)

// patience bounds every wait. It is long because the machine may be busy; no
// test waits for it to pass.
const patience = 60 * time.Second

// stallTime is how long a relay stalls before the test ends it.
const stallTime = 100 * time.Millisecond

// reply is what a client heard.
type reply struct {
	code int // 0: the connection ended before there was one
	text string
}

// client is a connection of a local program.
type client struct {
	conn net.Conn
	text *textproto.Conn
}

// dial connects to a proxy's socket and greets.
func dial(socket string) (*client, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	c := &client{conn, textproto.NewConn(conn)}
	if got := c.read(); got.code != 220 {
		c.close()
		return nil, fmt.Errorf("greeted with %+v", got)
	}
	if got := c.say("EHLO client.example"); got.code != 250 {
		c.close()
		return nil, fmt.Errorf("EHLO had the reply %+v", got)
	}
	return c, nil
}

func (c *client) close() { _ = c.conn.Close() }

// say sends a line and reads the reply.
func (c *client) say(format string, args ...any) reply {
	if err := c.text.PrintfLine(format, args...); err != nil {
		return reply{text: err.Error()}
	}
	return c.read()
}

func (c *client) read() reply {
	code, text, err := c.text.ReadResponse(0)
	var refused *textproto.Error
	if err != nil && !errors.As(err, &refused) {
		return reply{text: err.Error()}
	}
	return reply{code, text}
}

// send submits a letter: the reply that ended it, and those to its recipients.
func (c *client) send(l letter) (last reply, rcpts []reply) {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	text := l.text()
	if last = c.say("MAIL FROM:<%s> SIZE=%d", l.from(), len(text)); last.code != 250 {
		return last, nil
	}
	accepted, refused := 0, reply{}
	for _, to := range l.to {
		got := c.say("RCPT TO:<%s>", to)
		if rcpts = append(rcpts, got); got.code == 250 {
			accepted++
		} else {
			refused = got
		}
	}
	if accepted == 0 {
		c.say("RSET")
		return refused, rcpts
	}
	if last = c.say("DATA"); last.code != 354 {
		return last, rcpts
	}
	w := c.text.DotWriter()
	_, err := w.Write(text)
	if err = errors.Join(err, w.Close()); err != nil {
		return reply{text: err.Error()}, rcpts
	}
	return c.read(), rcpts
}
