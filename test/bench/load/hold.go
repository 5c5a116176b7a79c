package load

import (
	"context"
	"fmt"
)

// Sessions are open sessions at rest.
type Sessions []*client

// Open opens count sessions, as far as AUTH, one after the other.
func Open(ctx context.Context, target Target, count int) (Sessions, error) {
	var sessions Sessions
	for i := range count {
		c, err := dial(ctx, target)
		if err != nil {
			sessions.Close()
			return nil, fmt.Errorf("opening session %d of %d: %w", i+1, count, err)
		}
		sessions = append(sessions, c)
	}
	return sessions, nil
}

// Close ends the sessions in good order.
func (s Sessions) Close() {
	for _, c := range s {
		c.quit()
	}
}
