package app

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
)

// cleanups are what must be undone, in reverse order: after a start that
// failed halfway, or at the end.
type cleanups struct {
	log   *zap.Logger
	steps []cleanup
}

type cleanup struct {
	name string
	undo func(context.Context) error
}

// add names what was just started and how to undo it.
func (c *cleanups) add(name string, undo func(context.Context) error) {
	c.steps = append(c.steps, cleanup{name, undo})
}

// run undoes everything, whatever fails on the way, and gives the first failure.
func (c *cleanups) run(ctx context.Context) error {
	var first error
	for i := len(c.steps) - 1; i >= 0; i-- {
		step := c.steps[i]
		if err := step.undo(ctx); err != nil {
			c.log.Warn("part did not stop cleanly", zap.String(logfields.Name, step.name), zap.Error(err))
			if first == nil {
				first = fmt.Errorf("stopping %s: %w", step.name, err)
			}
		}
	}
	c.steps = nil
	return first
}
