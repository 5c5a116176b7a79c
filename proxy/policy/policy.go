package policy

import (
	"errors"
	"fmt"
)

// Result is what a decision comes to. The zero value denies.
type Result uint8

// The results.
const (
	Deny  Result = iota // refused for good
	Allow               // sent
	Defer               // refused for now: the client keeps the message and tries again
	Hold                // accepted, and parked until a person releases it
)

// String is the word of the configuration and of the audit log.
func (r Result) String() string {
	switch r {
	case Allow:
		return "allow"
	case Defer:
		return "defer"
	case Hold:
		return "hold"
	}
	return "deny"
}

// Reasons of a refusal: text for the SMTP reply, stable since people search
// for it.
const (
	ReasonUnknown       = "identity unknown"
	ReasonNoRule        = "no rule for this identity"
	ReasonIdentity      = "identity not allowed to send"
	ReasonSender        = "sender not allowed for this identity"
	ReasonRecipient     = "recipient not allowed for this identity"
	ReasonHeaderFrom    = "From field not allowed for this identity"
	ReasonHeaderInvalid = "From field cannot be read"
	ReasonHeaderMissing = "From field missing"
)

// Reasons of what is not refused for good, for the audit log; a deferral's is
// also text for the reply.
const (
	ReasonRule         = "allowed by rule"
	ReasonDefault      = "allowed by default"
	ReasonProven       = "proven local identity"
	ReasonAccount      = "authenticated account"
	ReasonDefer        = "deferred by rule"
	ReasonHold         = "held by rule"
	ReasonDefaultDefer = "deferred by default"
	ReasonDefaultHold  = "held by default"
)

// Decision is the answer at one stage of a transaction.
type Decision struct {
	Result Result
	Reason string // one of the constants above
	Rule   string // name of the rule that decided; empty when none matched
	Relay  string // the rule's relay; empty for the default order

	// CheckHeader says that the header section must be put to Policy.Header
	// before any of the message is passed on.
	CheckHeader bool
}

// Policy holds the compiled rules.
//
// The order of evaluation:
//
//  1. The first rule whose Match fits the identity and the listener decides;
//     later ones are not looked at, whatever comes of it. An identity that is
//     neither proven nor authenticated fits only a rule that names listeners
//     and no attribute of an identity.
//  2. That rule's decision: deny ends here. Allow, defer and hold are what
//     comes of it if the addresses fit; else it is deny.
//  3. Its senders: Sender compares the reverse-path, Header each address of
//     each From field (unless the rule says header_from = "any").
//  4. Its recipients: Recipient compares each forward-path.
//
// When no rule matches: unknown is denied; without any rule every proven or
// authenticated identity may send; else the default decides.
type Policy struct {
	fallback Result
	rules    []rule
}

// New compiles rules, which are kept in the order given. fallback is for a
// known identity that no rule matches. The error joins all that is wrong with
// the rules; each names its rule and field.
func New(fallback Result, rules []Rule) (*Policy, error) {
	p := &Policy{fallback: fallback, rules: make([]rule, 0, len(rules))}
	var errs []error
	for i := range rules {
		compiled, err := compile(&rules[i])
		if err != nil {
			errs = append(errs, fmt.Errorf("rule %q: %w", rules[i].Name, err))
		}
		p.rules = append(p.rules, compiled)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

// Session decides before any address is known: what Sender, Recipient and
// Header come to where the addresses fit.
func (p *Policy) Session(id Identity, listener string) Decision { return p.For(id, listener).decision }

// Sender is Ruling.Sender, for who asks once.
func (p *Policy) Sender(id Identity, listener, reversePath string) Decision {
	r := p.For(id, listener)
	return r.Sender(reversePath)
}

// Recipient is Ruling.Recipient, for who asks once.
func (p *Policy) Recipient(id Identity, listener, forwardPath string) Decision {
	r := p.For(id, listener)
	return r.Recipient(forwardPath)
}

// Header is Ruling.Header, for who asks once.
func (p *Policy) Header(id Identity, listener string, headerSection []byte) Decision {
	r := p.For(id, listener)
	return r.Header(headerSection)
}

// match finds the deciding rule, nil if none matches, and what it says before
// addresses are looked at.
func (p *Policy) match(id *Identity, listener string) (*rule, Decision) {
	s := newSubject(id, listener)
	for i := range p.rules {
		r := &p.rules[i]
		if !r.match(&s) {
			continue
		}
		return r, r.say()
	}
	return nil, p.withoutRule(id)
}

func (p *Policy) withoutRule(id *Identity) Decision {
	switch {
	case !id.known():
		return Decision{Result: Deny, Reason: ReasonUnknown}
	case len(p.rules) == 0 && id.Proven:
		return Decision{Result: Allow, Reason: ReasonProven}
	case len(p.rules) == 0:
		return Decision{Result: Allow, Reason: ReasonAccount}
	}
	switch p.fallback {
	case Allow:
		return Decision{Result: Allow, Reason: ReasonDefault}
	case Defer:
		return Decision{Result: Defer, Reason: ReasonDefaultDefer}
	case Hold:
		return Decision{Result: Hold, Reason: ReasonDefaultHold}
	}
	return Decision{Result: Deny, Reason: ReasonNoRule}
}

func deny(r *rule, reason string) Decision {
	return Decision{Result: Deny, Reason: reason, Rule: r.name}
}
