// Package testkit holds what tests and benchmarks need of the world around the
// product: Relay, a recording stand-in for an approved relay that can be told
// to misbehave at each step of the dialogue.
//
// It trusts the test that uses it, and no peer: whatever the other end sends is
// recorded or refused, never a reason to panic.
//
// A Relay may be used from many goroutines. Each connection has one of its own,
// and Close waits for all of them.
//
// Relay follows RFC 5321 with RFC 1870, 2034, 2920, 3030, 3207, 3461, 4954,
// 6152, 6531 and 8314, as a lenient server: it shows what a client did and is
// no judge of it, but for parameters of extensions that were not offered.
//
// Not here: network namespaces (internal/lab), and anything that the product
// itself imports.
package testkit
