// Package spool has durable custody of messages. In this version it holds
// messages for which no relay is configured: each is one file, first in
// incoming/ while it arrives, then, from the moment at which we may answer 250,
// in hold/, until somebody else has custody and it is removed.
//
// It trusts internal/durable's file system to keep what was synced, and its own
// process to be the only one at work in the directory, which a lock makes sure
// of. It does not trust what it reads back: a file that fails its checksum is
// moved to corrupt/, reported, and never deleted or delivered.
//
// A Spool may be used by any number of goroutines, a Writer and a Message by one
// each. Size limits hold over all of them together.
//
// Standards: RFC 5321 section 4.2.5 and 6.1 on who is responsible after the
// reply to the end of data. The file format is in docs/spool-format.md.
//
// Not here: retries, bounces and their schedule (a later version, in directories
// beside these), and the delivery itself (proxy/relay).
package spool
