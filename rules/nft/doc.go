// Package nft puts a ruleset into the kernel and keeps it there: Apply, Load,
// Remove, Watch and Status on one Conn. It is the only importer of
// google/nftables, and uses it as a compiler: the messages that it makes are
// sent over a netlink socket of our own, which lives as long as the Conn.
//
// It trusts the kernel's answers and nothing that others left in our tables:
// what is there is read, compared and replaced in one atomic batch, which the
// kernel refuses if anybody changed anything since it was read.
//
// A Conn may be used from many goroutines. Its sockets belong to the network
// namespace of the thread that opened it. Watch is one goroutine of its caller.
//
// Standards: the nf_tables netlink interface of Linux 5.13 and later; the lock
// table needs 5.12 (docs/decisions/0001-lock-table.md says what it is for).
//
// Not here: what the rules are (rules), who made an attempt (proxy/peer), and
// the tables of others, which are neither read nor changed.
package nft
