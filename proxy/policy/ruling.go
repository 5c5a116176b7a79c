package policy

// Ruling is what the rules come to for one identity at one listener: the rules
// are gone through once, however many addresses are asked about. The zero value
// denies.
type Ruling struct {
	rule     *rule // that decided; nil if none matched
	decision Decision
}

// For finds the ruling of an identity.
func (p *Policy) For(id Identity, listener string) Ruling {
	r, decision := p.match(&id, listener)
	return Ruling{rule: r, decision: decision}
}

// Sender decides at MAIL. reversePath is local@domain, or empty for the null
// reverse-path.
func (r *Ruling) Sender(reversePath string) Decision {
	if r.decision.Result != Deny && r.rule != nil && !r.rule.senders.fitReversePath(reversePath) {
		return deny(r.rule, ReasonSender)
	}
	return r.decision
}

// Recipient decides at RCPT, for one forward-path: local@domain, or
// "postmaster" alone.
func (r *Ruling) Recipient(forwardPath string) Decision {
	if r.decision.Result != Deny && r.rule != nil && !r.rule.recipients.fit(forwardPath) {
		return deny(r.rule, ReasonRecipient)
	}
	return r.decision
}

// Header decides when the header section is complete. It is the raw octets up
// to the empty line, which may be included. All addresses of all From fields
// must fit the rule's senders; for a rule that restricts no senders the section
// is not looked at.
func (r *Ruling) Header(headerSection []byte) Decision {
	if !r.decision.CheckHeader {
		return r.decision
	}
	addresses, err := FromAddresses(headerSection)
	if err != nil {
		return deny(r.rule, ReasonHeaderInvalid)
	}
	if len(addresses) == 0 {
		return deny(r.rule, ReasonHeaderMissing)
	}
	for _, address := range addresses {
		if !r.rule.senders.fit(address) {
			return deny(r.rule, ReasonHeaderFrom)
		}
	}
	return r.decision
}
