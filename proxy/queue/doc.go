// Package queue says which message of the spool is tried next, and when: routes
// in turn, in each route identities in turn, and of one identity what is due
// first. So neither a slow relay nor somebody with 50,000 messages delays the
// next message of anybody else.
//
// It trusts its caller to name identity and route truly, and to say Done once
// for each item that Take gave. It trusts no order: an item that is added twice,
// or while it is being delivered, is still in one place and taken once at a time.
//
// A Queue may be used by any number of goroutines; one lock guards it, and it
// starts none of its own. Time is passed in. Readings of the clock that carry
// the monotonic one are compared by it, so a jump of the clock moves nothing.
//
// Standards: RFC 5321 section 4.5.4.1 on how a client tries again: half an hour
// between two tries, sooner ones while they are few (Backoff); when to give up is
// the caller's. Turns are those of Nagle's RFC 970, at both levels.
//
// Not here: the messages (proxy/spool), whether a relay answers (proxy/relay),
// what a try's result means, and the goroutines that deliver (package proxy).
package queue
