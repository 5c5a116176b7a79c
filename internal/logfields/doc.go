// Package logfields holds the keys of the program log and of the audit
// events, one spelling each, so that one search finds a thing in both.
//
// It trusts nothing and holds no values; what is written under a key is the
// business of the room that writes it, and a secret is never such a value.
//
// There are only constants here, so any goroutine may use them.
//
// The words follow docs/vocabulary: lower case, underscores, the unit as the
// last part where there is one (duration_ms).
//
// Not here: the shape of an event (proxy/audit) and the logger (internal/app).
package logfields
