package config

import "time"

// Filter is a milter that sees each message before it is taken.
type Filter struct {
	Name      string
	Network   string // "unix" or "tcp", for net.Dial
	Address   string // an absolute path, or host:port
	OnFailure FilterFailure
	Timeout   time.Duration // for one message; from 1 s to 10 minutes
}

// FilterFailure is what becomes of messages while a filter is away.
type FilterFailure string

// Ways to go on without a filter.
const (
	FilterDefer  FilterFailure = "defer"  // 451, to try again later
	FilterAccept FilterFailure = "accept" // as if it had let them pass
)
