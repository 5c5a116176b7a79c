package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Mode says whether the rules only watch or also block.
type Mode uint8

// Modes. The zero value blocks nothing.
const (
	Observe Mode = iota
	Enforce
)

// String returns the word that the configuration has for the mode.
func (m Mode) String() string {
	if m == Enforce {
		return "enforce"
	}
	return "observe"
}

// SubmissionPorts says what happens to local connections to 465, 587 and 2525
// of other hosts.
type SubmissionPorts uint8

// RedirectSubmission sends them to the listeners of Options.Redirect and resets
// those without one; RejectSubmission resets them all.
const (
	RedirectSubmission SubmissionPorts = iota
	RejectSubmission
)

// Options are what a ruleset depends on.
type Options struct {
	Mode Mode
	// ProxyUID is the user that may reach the relays. It is never root, whose
	// processes are all blocked.
	ProxyUID uint32
	// SubmissionPorts and Redirect count in enforce mode only.
	SubmissionPorts SubmissionPorts
	// Redirect maps the original port (465, 587, 2525) to the port of our
	// listener on 127.0.0.1 and ::1.
	Redirect map[uint16]uint16
	// NoTimeouts is for kernels that cannot set the times of connection
	// tracking for some connections only: redirected ones are remembered longer.
	NoTimeouts bool
	// DNSAnswers copies answers of name servers to AnswerGroup, in enforce mode
	// where something is redirected.
	DNSAnswers bool
	// Relays are the approved relays. Any port will do; on a port that is no
	// mail port, everybody but the proxy is refused at these addresses only.
	Relays []netip.AddrPort
	// Inside are networks behind this host whose own port 25 is not outside:
	// forwarded traffic to them is left alone. Usually empty.
	Inside []netip.Prefix

	// Allow are direct connections that are left alone in each mode, save those
	// of the Suspended. Containers are the control groups, at levels 1 to 5, of
	// containers that share the host's network: entries of users and groups do
	// not count for them.
	Allow      []Allow
	Suspended  Suspended
	Containers []uint64
}

const portSMTP = 25

// mailPorts are the ports that nobody but the proxy reaches outside.
func mailPorts() []uint16 { return append([]uint16{portSMTP}, submissionPorts()...) }

func submissionPorts() []uint16 { return []uint16{465, 587, 2525} }

func (o Options) validate() error {
	var errs []error
	if o.ProxyUID == 0 {
		errs = append(errs, errors.New("the proxy's uid is 0: root must be blocked like everybody else"))
	}
	for from, to := range o.Redirect {
		if !slices.Contains(submissionPorts(), from) {
			errs = append(errs, fmt.Errorf("port %d cannot be redirected: only 465, 587 and 2525 can", from))
		}
		if to == 0 {
			errs = append(errs, fmt.Errorf("port %d is redirected to port 0", from))
		}
	}
	for _, r := range o.Relays {
		if !r.Addr().IsValid() || r.Addr().IsUnspecified() || r.Port() == 0 {
			errs = append(errs, fmt.Errorf("relay %q is not an address and a port", r))
		}
	}
	for _, p := range o.Inside {
		if !p.IsValid() || p.Bits() == 0 {
			errs = append(errs, fmt.Errorf("network %q cannot be inside", p))
		}
	}
	return errors.Join(append(errs, o.validateAllow())...)
}

func (o Options) redirects() bool {
	return o.Mode == Enforce && o.SubmissionPorts == RedirectSubmission && len(o.Redirect) > 0
}

func (o Options) setsTimeout() bool { return o.redirects() && !o.NoTimeouts }
