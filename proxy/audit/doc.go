// Package audit is the record of what happened: one event for each
// transaction, each blocked attempt, each drift of the rules and each session
// that ends without a transaction, as one line of JSON in an append-only file.
//
// It trusts its callers for the meaning of a field and for never passing a
// secret or message content; it does not trust the content of any string.
// Whatever a client sent is bounded, made valid UTF-8 and escaped, so that a
// line stays one line and never steers a terminal. The directory of the log may
// belong to a less trusted user, so links and special files are refused.
//
// A Log may be used by many goroutines: an event is encoded and written under
// one lock, in one write(2). A file has one Log: the proxy and the guard each
// write their own. An Event is a plain value and not shared. Read is
// used by one goroutine at a time and needs no lock from the writer.
//
// JSON is RFC 8259, one text a line; times are RFC 3339 with milliseconds, in
// UTC. Keys are those of internal/logfields.
//
// Not here: the program log (zap), the protocol trace, the decision itself
// (proxy/policy), and rotation, which is logrotate's: a renamed file is noticed
// within a second and a new one begun.
package audit
