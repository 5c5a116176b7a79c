package queue

import (
	"math"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	usual := Backoff{First: time.Minute, Max: time.Hour, Jitter: 0.2}
	for _, c := range []struct {
		name     string
		b        Backoff
		attempts int
		random   float64
		want     time.Duration
	}{
		{"first", usual, 1, 0.5, time.Minute},
		{"second", usual, 2, 0.5, 2 * time.Minute},
		{"sixth", usual, 6, 0.5, 32 * time.Minute},
		{"seventh is capped", usual, 7, 0.5, time.Hour},
		{"a million", usual, 1_000_000, 0.5, time.Hour},
		{"most", usual, math.MaxInt, 0.5, time.Hour},
		{"not tried yet", usual, 0, 0.5, time.Minute},
		{"negative", usual, -3, 0.5, time.Minute},
		{"shortest", usual, 1, 0, 48 * time.Second},
		{"longest", usual, 1, 1, 72 * time.Second},
		{"longest of the cap", usual, 9, 1, 72 * time.Minute},
		{"Max below First", Backoff{First: time.Hour, Max: time.Minute}, 5, 0.5, time.Hour},
		{"no overflow", Backoff{First: time.Second, Max: math.MaxInt64}, 500, 0.5, math.MaxInt64},
		{"none", Backoff{}, math.MaxInt, 0.3, 0},
	} {
		if got := c.b.After(c.attempts, c.random); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
