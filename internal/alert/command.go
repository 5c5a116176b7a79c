package alert

import (
	"context"
	"time"

	"github.com/smtpwall/smtpwall/internal/program"
)

const programTime = 30 * time.Second

// command is a program that is told.
type command struct {
	argv []string
	turn chan struct{} // room for one: programs run one at a time
}

func newCommand(target Target, turn chan struct{}) *command {
	return &command{argv: target.Exec, turn: turn}
}

// retries is 0: a program that failed may have told somebody, and may not know
// how not to tell twice.
func (c *command) retries() int { return 0 }

// send runs the program with the alert on its standard input.
func (c *command) send(ctx context.Context, body []byte) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return program.Run(ctx, c.argv, body, "LANG=C.UTF-8", programTime)
}
