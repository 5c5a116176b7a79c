package load

import "fmt"

// Received is what the relay recorded of one message.
type Received struct {
	ReversePath string
	Digest      string
}

// Verdict counts how what was received differs from what was sent.
type Verdict struct {
	Lost       int // answered with 250, never at the relay
	Altered    int // another digest than was sent
	Duplicated int // at the relay more than once
	Foreign    int // at the relay, not answered with 250: of sessions that failed, or of nobody
}

// Compare holds what arrived against what was sent.
func Compare(sent []Sent, received []Received) Verdict {
	digests := make(map[string]string, len(sent))
	for _, s := range sent {
		digests[s.ReversePath] = s.Digest
	}
	var verdict Verdict
	seen := make(map[string]bool, len(sent))
	for _, r := range received {
		digest, known := digests[r.ReversePath]
		switch {
		case !known:
			verdict.Foreign++
			continue
		case seen[r.ReversePath]:
			verdict.Duplicated++
		case digest != r.Digest:
			verdict.Altered++
		}
		seen[r.ReversePath] = true
	}
	verdict.Lost = len(digests) - len(seen)
	return verdict
}

// Err is nil when every message arrived once and as it was sent.
func (v Verdict) Err() error {
	if v == (Verdict{}) {
		return nil
	}
	return fmt.Errorf("%d messages lost, %d altered, %d duplicated, %d unknown", v.Lost, v.Altered, v.Duplicated, v.Foreign)
}
