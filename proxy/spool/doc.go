// Package spool has durable custody of messages. Each is one file: in incoming/
// while it arrives, then, from the moment at which we may answer 250, in queue/,
// where the end of its name is its state (active, deferred, hold), until somebody
// else has custody and it is removed. What each try has come to is appended to
// the file. A change of state is one rename in one directory, and all who wait
// for such changes share one sync of it.
//
// It trusts internal/durable's file system to keep what was synced, and its own
// process to be the only one at work in the directory, which a lock makes sure
// of. It does not trust what it reads back: a file that fails its checksum is
// moved to corrupt/, reported, and never deleted or delivered.
//
// A Spool may be used by any number of goroutines, a Writer and a Message by one
// each. Calls for the same message wait for each other. Size limits hold over all
// of them together.
//
// Standards: RFC 5321 section 4.2.5 and 6.1 on who is responsible after the
// reply to the end of data. The file format is in docs/spool-format.md.
//
// Not here: when a message is tried and by which relay (proxy, proxy/queue),
// what is told to its sender (proxy/dsn), and the delivery itself (proxy/relay).
package spool
