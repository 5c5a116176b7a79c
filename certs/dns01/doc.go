// Package dns01 answers the DNS-01 challenge of a certificate authority: a TXT
// record at _acme-challenge.NAME, put there by a dynamic update (Update) or by a
// program of the administrator's (Hook), waited for, and taken away again. Both
// follow a CNAME at that name, so that a zone that takes no updates can delegate
// its challenges to one that does.
//
// It trusts an answer to an update only if the key signed it, and no look-up
// further than to send a signed update to the configured server: whoever forges
// one delays a certificate. It runs no program that others than root and the
// user of this process can replace, and takes its output for text of a stranger.
//
// Update is a value and Hook has one turn for all its programs; both may be
// used by any number of goroutines. Whatever blocks ends with its context, but
// for CleanUp, which has a time limit of its own: what it takes away must go
// when the challenge was called off.
//
// Standards: RFC 8555 section 8.4 (the challenge), RFC 2136 (dynamic update),
// RFC 8945 (TSIG) and 4635 (its algorithms), RFC 7766 (DNS over TCP).
//
// Not here: when a certificate is asked for (certs), and the check of a
// configuration file with line and remedy (internal/config).
package dns01
