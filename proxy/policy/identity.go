package policy

import "strconv"

// Identity is who policy decides about. The zero value is unknown.
type Identity struct {
	Proven    bool     // the kernel vouches for UID, and for what follows from it and from the cgroup
	UID       uint32   // only if Proven
	User      string   // name of UID; only if Proven, empty if it has none
	Groups    []string // names of the user's groups; only if Proven
	Unit      string   // systemd unit; only if Proven
	Container string   // container id; only if Proven
	Placed    bool     // the cgroup is known, so that an empty Unit is none and not an unknown one
	Account   string   // name that AUTH verified; never what a client merely claimed
}

// known tells whether anybody vouches for this identity.
func (id *Identity) known() bool { return id.Proven || id.Account != "" }

// subject is an identity at a listener as the rules look at it: attributes that
// are not proven are empty, and an empty attribute fits no pattern.
type subject struct {
	known     bool
	uid       string
	user      string
	groups    []string
	unit      string
	container string
	account   string
	listener  string

	unplaced bool // it is proven who, and not known from which unit
}

func newSubject(id *Identity, listener string) subject {
	s := subject{known: id.known(), account: id.Account, listener: listener}
	if id.Proven {
		s.uid = strconv.FormatUint(uint64(id.UID), 10)
		s.user, s.groups, s.unit, s.container = id.User, id.Groups, id.Unit, id.Container
		s.unplaced = !id.Placed && id.Unit == "" && id.Container == ""
	}
	return s
}
