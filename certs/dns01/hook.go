package dns01

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"github.com/smtpwall/smtpwall/internal/program"
)

// programTime is how long one may take, unless told otherwise.
const programTime = 2 * time.Minute

// Hook has the administrator's program put the value of a challenge where it
// belongs: COMMAND present NAME VALUE, and later COMMAND cleanup NAME VALUE, with
// NAME like _acme-challenge.example.net and VALUE the text of the TXT record.
// Where NAME is a CNAME, the program is the one to know. Its programs run one at
// a time: many a DNS host takes the set of all values. It must not be copied.
type Hook struct {
	// Command is the absolute path of a program and its first arguments. No
	// shell sees them.
	Command []string
	// Resolvers are asked where a name belongs; none: those of /etc/resolv.conf.
	Resolvers []string
	// Propagation is how long Wait lets the servers of the zone take to show a
	// value: 0 two minutes, below 0 it does not wait.
	Propagation time.Duration

	once  sync.Once
	turn  chan struct{} // room for one
	limit time.Duration // for a program; tests have less time
}

var (
	_ acmez.Solver = (*Hook)(nil)
	_ acmez.Waiter = (*Hook)(nil)
)

// Validate reports everything that is wrong with the fields. It does not look at
// the program, which is done before each run.
func (h *Hook) Validate() error {
	var err error
	switch {
	case len(h.Command) == 0 || h.Command[0] == "":
		err = errors.New("hook: names no program")
	case !filepath.IsAbs(h.Command[0]):
		err = fmt.Errorf("hook: %q is not an absolute path", h.Command[0])
	}
	return errors.Join(err, validateResolvers(h.Resolvers))
}

// Present runs the program, for at most two minutes. Its exit status must be 0.
func (h *Hook) Present(ctx context.Context, challenge acme.Challenge) error {
	return h.run(ctx, "present", challenge)
}

// Wait returns when the servers of the zone that can be asked all show the value
// of a challenge. It fails if one of them does not within the time for
// propagation; if none can be asked, it has only waited.
func (h *Hook) Wait(ctx context.Context, challenge acme.Challenge) error {
	w := watch{find: finder{h.Resolvers}, limit: h.Propagation}
	if len(h.Resolvers) == 0 {
		w.find.servers = systemResolvers()
	}
	return w.wait(ctx, challenge.DNS01TXTRecordName(), challenge.DNS01KeyAuthorization())
}

// CleanUp runs the program, whether or not the context was called off.
func (h *Hook) CleanUp(ctx context.Context, challenge acme.Challenge) error {
	return h.run(context.WithoutCancel(ctx), "cleanup", challenge)
}

func (h *Hook) run(ctx context.Context, action string, challenge acme.Challenge) error {
	if err := h.Validate(); err != nil {
		return err
	}
	h.once.Do(func() { h.turn = make(chan struct{}, 1) })
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	limit := h.limit
	if limit == 0 {
		limit = programTime
	}
	argv := append(h.Command[:len(h.Command):len(h.Command)], action, challenge.DNS01TXTRecordName(), challenge.DNS01KeyAuthorization())
	return program.Run(ctx, argv, nil, "LC_ALL=C", limit)
}
