package config

import "time"

// Policy decides who may send what. The first rule that matches decides.
type Policy struct {
	Default    Result        // for an identity that no rule matches; unknown identities are always denied
	Limits     []Limit       // for each identity; none: no limit
	Ladder     []Rung        // what happens towards and beyond a limit
	SuspendFor time.Duration // how long the rung "suspend" lasts; 0: until somebody resumes the identity
	Budgets    Budgets
	Breakers   Breakers
	Rules      []Rule
}

// LimitsFor returns the limits for each identity that rule decides about; nil
// stands for no rule at all.
func (p *Policy) LimitsFor(rule *Rule) []Limit {
	if rule != nil && rule.LimitsStated {
		return rule.Limits
	}
	return p.Limits
}

// LadderFor returns the ladder of a rule, or of none, as LimitsFor does.
func (p *Policy) LadderFor(rule *Rule) []Rung {
	if rule != nil && rule.LadderStated {
		return rule.Ladder
	}
	return p.Ladder
}

// Budgets are limits above those of one identity. All that apply must have room.
type Budgets struct {
	Host      []Limit // of all together
	Unit      []Limit // of each systemd unit
	Container []Limit // of each container
	User      []Limit // of each proven user outside containers
	Account   []Limit // of each account
	Sender    []Limit // of each reverse-path that an identity uses
}

// Result is what a decision comes to.
type Result string

// Results.
const (
	Allow Result = "allow"
	Deny  Result = "deny"
	Defer Result = "defer" // 450, to try again later
	Hold  Result = "hold"  // accepted, and held until a person releases it
)

// Rule is one line of the policy. Patterns have "*" for any number of
// characters and "?" for one.
type Rule struct {
	Name       string
	Match      Match
	Senders    []string // patterns for the reverse-path; empty: any
	HeaderFrom HeaderFrom
	Recipients []string // patterns for the recipients; empty: any
	Decision   Result
	Relay      string // a relay's name; "": the order of Delivery.Relays
	// Limits and Ladder replace those of Policy where the file states them, an
	// empty list too.
	Limits       []Limit
	LimitsStated bool
	Ladder       []Rung
	LadderStated bool
}

// Match selects identities. An empty list asks nothing; what is asked must all
// hold, and one pattern of a list is enough.
type Match struct {
	User  []string // patterns
	UID   []string // decimal numbers
	Group []string // patterns
	Unit  []string // patterns
	// Container has patterns for the container's id, all of whose digits it is
	// compared with.
	Container []string
	Account   []string // patterns
	Listener  []ListenerRole
}

// ListenerRole names how a session reached us.
type ListenerRole string

// Roles. A redirected connection has RoleIntercepted, whichever listener took
// it.
const (
	RoleSubmission  ListenerRole = "submission"
	RoleSubmissions ListenerRole = "submissions"
	RoleAlternate   ListenerRole = "alternate"
	RoleIntercepted ListenerRole = "intercepted"
	RoleSocket      ListenerRole = "socket"
)

// HeaderFrom says what the From header field must agree with.
type HeaderFrom string

// Checks of the From header field.
const (
	HeaderFromSenders HeaderFrom = "senders" // each address in it must match Rule.Senders
	HeaderFromAny     HeaderFrom = "any"
)
