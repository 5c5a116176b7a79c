package policy

import "slices"

// Vouches tells whether a notice about a message of that identity may go to its
// reverse-path without being backscatter: mail to somebody whose address was
// forged. The decision at MAIL must not be to deny, and the address the identity's
// own: of a domain that the deciding rule names in its senders, or one of hosts,
// which are the machine's own names. A catch-all ("*", "*@*", "*@*.com") names
// nobody, and without rules only hosts count. Nothing may go to the null
// reverse-path.
func (p *Policy) Vouches(id Identity, listener, reversePath string, hosts ...string) bool {
	_, domain, ok := splitAddress(reversePath)
	if !ok || p.Sender(id, listener, reversePath).Result == Deny {
		return false
	}
	if slices.ContainsFunc(hosts, func(host string) bool { return canonicalDomain(host) == domain }) {
		return true
	}
	r, _ := p.match(&id, listener)
	return r != nil && r.senders.fitOwn(reversePath)
}
