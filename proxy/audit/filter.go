package audit

import (
	"strconv"
	"time"
)

// Filter says which events are wanted. A zero field asks nothing; those that
// are set must all fit.
type Filter struct {
	Kind     Kind
	ID       string    // of a session or a transaction
	Decision string    // allow, deny
	User     string    // peer_user, or peer_uid as a number
	Unit     string    // peer_unit or peer_container
	Account  string    // auth_id
	Identity string    // identity, where the event has one
	Since    time.Time // inclusive
	Until    time.Time // exclusive
}

// Match tells whether event is wanted.
func (f *Filter) Match(event *Event) bool {
	return (f.Kind == "" || f.Kind == event.Kind) &&
		(f.ID == "" || f.ID == event.Session || f.ID == event.Txn) &&
		(f.Decision == "" || f.Decision == event.Decision) &&
		(f.User == "" || matchUser(f.User, event)) &&
		(f.Unit == "" || f.Unit == event.PeerUnit || f.Unit == event.PeerContainer) &&
		(f.Account == "" || f.Account == event.AuthID) &&
		(f.Identity == "" || f.Identity == event.Identity) &&
		(f.Since.IsZero() || !event.Time.Before(f.Since)) &&
		(f.Until.IsZero() || event.Time.Before(f.Until))
}

func matchUser(want string, event *Event) bool {
	if want == event.PeerUser {
		return true
	}
	uid, known := event.PeerUID.Get()
	return known && want == strconv.FormatUint(uint64(uid), 10)
}
