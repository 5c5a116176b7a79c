// Package pebble runs Pebble, Let's Encrypt's small ACME server for tests, and
// the DNS server that it asks where names live. Both are real programs, built
// by go from the versions that go.mod pins, and end with the test.
//
// It trusts the test that uses it. What the CA is to be told it is told in its
// configuration or by its management interface, never by changing it.
//
// A CA may be used from many goroutines, but for Stop, Start, Pause and Resume.
// Its methods end the test when the CA does not do as it should, and so belong
// on the test's own goroutine.
//
// Pebble follows RFC 8555 with RFC 8737 (TLS-ALPN-01) and RFC 9773 (ARI), and
// forgets everything when it ends: accounts, orders and its own roots.
//
// Not here: the answers to challenges, which are what a test is about.
package pebble
