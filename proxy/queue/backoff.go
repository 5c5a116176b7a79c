package queue

import "time"

// Backoff is how long a message waits after a try that failed. With First one
// minute, Max one hour and Jitter 0.2 the waits are 1, 2, 4 … 32 minutes, then
// an hour, each up to a fifth shorter or longer, so that what failed together is
// not tried together.
type Backoff struct {
	First  time.Duration // after the first try
	Max    time.Duration // doubled up to here; First if that is more
	Jitter float64       // 0 to 1: the part by which a wait may be shorter or longer
}

// After is the wait after so many tries. The random number is from 0 to 1.
func (b Backoff) After(attempts int, random float64) time.Duration {
	wait := b.First
	for try := 1; try < attempts && 0 < wait && wait < b.Max; try++ {
		if wait > b.Max/2 { // twice as much may overflow
			wait = b.Max
		} else {
			wait *= 2
		}
	}
	return wait + time.Duration(float64(wait)*b.Jitter*(2*random-1))
}
