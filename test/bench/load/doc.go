// Package load is the benchmark's load generator: many SMTP clients that submit
// messages, each of them unique, and remember what they sent.
//
// It trusts the server it measures with nothing: a reply that is not the
// expected one ends the session and is counted, and Compare holds what the
// relay recorded against what was answered with 250.
//
// Run uses one goroutine a connection and returns when all have ended.
//
// The client follows RFC 5321, 3207, 8314 and 4954 (PLAIN), waits for each reply
// unless told to pipeline (RFC 2920), and resumes no TLS session.
//
// Not here: the relay (internal/testkit), the proxies measured (../peer), and
// what is measured in which order (../).
package load
