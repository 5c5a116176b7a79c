// Package limit counts what identities send and says whether there is room for
// more: budgets of messages, recipients, new recipients and bytes over windows
// of time, the ladder of what happens as a budget fills, what raises it, and
// suspensions. A window is exact over slots of a 64th of its length: a count
// leaves when its whole slot is older than the window. So there is never more
// than the maximum in any window, wherever it begins, and never a refusal where
// the last window and one slot have room. Room is claimed in all budgets or in
// none, and counts as used from the moment at which the claim is committed.
//
// It trusts its caller for the keys, which must be proven attributes or
// verified accounts, and for the time; but a clock that is set back opens no
// window twice. It does not trust its store: one that is damaged is set aside,
// and every limit begins as if it had been used up evenly over its last window.
//
// Any goroutine may use a Limiter; a Claim belongs to one at a time. Each key
// has a lock of its own, several are taken in one order, and who is suspended
// or raised is read without any. One goroutine of the Limiter saves what changed,
// each second; memory is what counts, and a crash loses the last second at most.
//
// Standards: none; the replies that follow from an answer are RFC 5321 and RFC
// 3463, in package proxy.
//
// Not here: who an identity is (proxy/peer, proxy/auth), which limits it has
// (proxy/policy), what is suspicious (proxy/breaker), and the delay, reply or
// hold that an action becomes (package proxy).
package limit
