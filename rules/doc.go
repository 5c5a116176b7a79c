// Package rules says, as plain values, which nftables rules smtpwall wants in
// the kernel: New and NewLock make a Ruleset from Options, Render writes it as
// nft text, Diff compares two.
//
// It trusts its Options and nothing else. Every ruleset lists what is allowed
// and refuses the rest, because an nftables expression that cannot be evaluated
// (the owner of a packet without a socket, say) ends its rule without a verdict.
//
// All values are immutable by convention and safe to share between goroutines;
// the package does no I/O and has no state.
//
// Standards: nftables as in Linux 5.13 and later; text as nft 1.0.6 prints it.
// IPv4 and IPv6 always get the same rules. The layout of the tables, sets and
// counters, which readers depend on, is described in names.go.
//
// Not here: talking to the kernel (rules/nft), who owns a refused socket
// (proxy/peer), and the looking up of relay names.
package rules
