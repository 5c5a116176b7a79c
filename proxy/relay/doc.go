// Package relay is the SMTP client to one approved relay: a pool of verified,
// authenticated connections, each lent to one transaction at a time. It leaves a
// relay alone that fails, and learns from its replies how many connections and
// how many messages it takes, and which of its ports this network lets through.
//
// It trusts the relay to take custody and nothing else: replies are bounded
// and checked, TLS is required and verified (but for a relay on loopback that
// the administrator set to none), and a credential goes only to a relay whose
// certificate was verified. A secret never reaches an error or a log line.
//
// A Pool is safe for concurrent use, and fair: no holder gets all connections.
// A Transaction belongs to one goroutine and ends with exactly one Finish or
// Abort, which gives its connection back; the end of its context cuts it off.
//
// Standards: RFC 5321 (client), RFC 2920 (commands of one flight go out in one
// write), RFC 3030 (BDAT saves the round trip of DATA), RFC 3207 (STARTTLS),
// RFC 4954 with RFC 4616, RFC 2195, RFC 5802 and RFC 7677 (AUTH), RFC 8314.
//
// Not here: which relay a message takes (package policy and proxy), what
// happens to a message that no relay takes now (package spool).
package relay
