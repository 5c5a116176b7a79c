// Package program runs programs that the administrator named: those that are told
// of alerts, and those that show a CA that a name is ours.
//
// It trusts what root and the user of this process own. A program that somebody
// else can replace by the time it is run is not run: it would run as that user.
//
// Its functions may be called by many goroutines; each run has its own process
// group and ends with its time.
//
// Standards: none.
//
// Not here: which program, with what arguments and input, and how often
// (internal/alert, certs/dns01), and the same custody with a remedy when the
// configuration is read (internal/config).
package program
