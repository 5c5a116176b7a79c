// Package policy decides who may send what: a pure function of the rules, the
// identity behind a session and one thing that it asks for. Every answer names
// its reason and the rule that gave it, and Explain says why each rule fits or
// does not.
//
// It trusts the proven attributes of an Identity (the caller fills them from
// the kernel only) and the account that AUTH verified. It does not trust
// anything that a client wrote: addresses and the From field are compared, and
// what cannot be read does not fit. Unknown is never taken for root, nor for
// anybody else.
//
// A Policy is immutable after New; any goroutine may ask it. A changed
// configuration makes a new one, and sessions keep theirs to their end.
//
// Addresses are those of RFC 5321 and RFC 6531; the From field is read by
// RFC 5322, its obsolete forms, RFC 6532 and RFC 6854 (groups in From). Domains
// are compared as RFC 5890 wants: an A-label equals its U-label.
//
// Not here: how many messages (limits), how an identity is found (proxy/peer,
// proxy/auth), and what the refusal looks like on the wire (package proxy).
package policy
