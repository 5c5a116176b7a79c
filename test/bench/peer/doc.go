// Package peer starts what the benchmark measures: smtpwall, and the programs
// that it is compared with, each with a configuration for the same job: take
// submissions on loopback and bring them to the relay over verified TLS.
//
// It trusts the programs that are installed. It writes below one directory that
// it is given, uses high ports of 127.0.0.1 alone, and ends only processes that
// it started, by their ids.
//
// A Running is used by one goroutine at a time.
//
// Configurations follow each program's manual: two processes or threads where
// the program asks for a number, no TLS session resumption towards the relay,
// no log file, everything else as its authors set it.
//
// Not here: load and measurement (.. and ../load).
package peer
