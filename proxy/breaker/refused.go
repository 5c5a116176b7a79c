package breaker

import "fmt"

// replies counts what relays said about recipients.
type replies struct {
	accepted, refused ring
}

// trip counts, and returns how many were refused, with the reason, if the
// breaker trips.
func (r *replies) trip(now round, accepted, refused uint32) (int64, string) {
	r.accepted.add(now.moment, now.Window, accepted)
	r.refused.add(now.moment, now.Window, refused)
	bad := r.refused.sum()
	all := bad + r.accepted.sum()
	tripped := bad > 0 && all >= now.Least && float64(bad) >= now.Share*float64(all)
	if now.quiet || !tripped {
		return 0, ""
	}
	r.accepted.clear()
	r.refused.clear()
	return bad, fmt.Sprintf("relays refused %d of %d recipients for good within %s, %s %% or more",
		bad, all, span(now.Window), number(now.Share*100))
}
