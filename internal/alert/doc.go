// Package alert tells people what went wrong, on a way that is not the mail's:
// it starts a program or posts to a webhook. Whatever happens, an
// administrator gets a few alerts, each with a count, and not a flood.
//
// It trusts the configuration: the program is run as the proxy's user, and a
// webhook is told names, addresses and counts. It does not trust what an event
// says (that may come from the wire), nor the webhook's answer: both are
// bounded, and no redirect is followed. A secret reaches neither log nor error.
//
// Raise may be called by any number of goroutines and never waits for a
// delivery. Each target has a goroutine of its own, started by New or Apply and
// awaited by Close. Programs run one at a time.
//
// Standards: JSON (RFC 8259), HTTP (RFC 9110) over TLS 1.2 or later, times as
// RFC 3339, HMAC-SHA-256 (RFC 2104). docs/alerts.md says what a receiver gets.
//
// Not here: what deserves an alert (internal/app joins it to the proxy and the
// guard), and the record of what happened (proxy/audit): alerts may be lost,
// events may not.
package alert
