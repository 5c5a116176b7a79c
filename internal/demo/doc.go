// Package demo shows the whole job on any machine, in throw-away network
// namespaces: a host with smtpwall in enforce mode, and an outside with a
// stand-in relay, a mail exchanger and somebody else's submission server.
//
// It trusts its caller to be root. It touches nothing outside a temporary
// directory and namespaces of its own: no rule, user or file of the host.
//
// One goroutine runs it; the processes that it starts end with it.
//
// The stand-in relay is smtpwall itself, without a relay of its own: it takes
// mail and holds it. No other standard is involved than those of the product.
//
// Not here: tests. The demo asserts what it shows, but its purpose is to be read.
package demo
