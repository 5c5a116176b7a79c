// Package farend runs the stand-in relay as a process of its own, so that the
// CPU time of relay, load generator and proxy are three numbers.
//
// The process is the driver's own program with another first argument. It
// trusts the driver, to which it is bound by its standard input and output, and
// ends when the driver does.
//
// A FarEnd is used by one goroutine at a time.
//
// Requests and answers are gob values: no standard but Go's own.
//
// Not here: the relay itself (internal/testkit) and the comparison of what was
// sent with what arrived (../load).
package farend
