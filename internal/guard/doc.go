// Package guard is the privileged half of smtpwall: it puts the rules up, puts
// them back when somebody changes them, keeps the relays' addresses in them,
// and makes an audit event of each attempt that they block.
//
// It trusts the kernel's word on who owns a socket, and the name servers as far
// as a relay's address goes: TLS verifies the relay, and only the proxy's user
// may connect there. It does not trust who connects to its socket: the kernel
// names the peer's uid, and requests are bounded in size, number and time. What
// /proc says of a process is observed, not proven.
//
// Run applies the rules first and then starts its loops, each in a goroutine
// that Run waits for: relays, watch, log, attempts, socket. A loop that fails is
// started again and is a condition meanwhile; none takes the rules down.
// Reload, Release and Status may be called from any goroutine.
//
// Lifetimes of addresses are those of DNS (RFC 1035, RFC 2308). Answers of the
// hosts file come first. The socket speaks JSON (RFC 8259), one text a line.
//
// Not here: the rules themselves (rules), the kernel's side of them
// (rules/nft), reading a configuration, and systemd's protocol, which the app
// joins on by the hooks in Options.
package guard
