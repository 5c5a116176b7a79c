// Package breaker tells when an identity behaves as one that was broken into:
// relays refuse what it sends, it uses many senders, it sends one body to many,
// or far more than it ever did. It says so once, with the numbers, and leaves
// what follows to its caller.
//
// It trusts its caller to name the identity by proven attributes only. It does
// not trust anything that a client wrote: a sender and a body may be chosen to
// escape it or to fill its memory, so each identity has room for so many and no
// more, and nobody's mail counts as another's.
//
// A Watch may be used by any number of goroutines; identities are spread over
// shards with a lock each, held for a fraction of a microsecond. It starts no
// goroutine. A Body belongs to one. Time is passed in; readings that carry the
// monotonic clock are compared by it, and one that goes back is taken for one
// that stands still.
//
// Standards: reverse-paths as RFC 5321 has them. VERP and sub-addresses (RFC
// 5233), SRS and BATV are known by their looks. Which of many bodies are the
// frequent ones is found as in "Space-Saving" (Metwally, Agrawal, El Abbadi:
// Efficient Computation of Frequent and Top-k Elements in Data Streams, 2005).
//
// Not here: how much an identity may send (proxy/limit), what a trip does
// (package proxy), whether a body is spam (filters), and anything that outlives
// the process: after a restart each identity's history begins anew.
package breaker
