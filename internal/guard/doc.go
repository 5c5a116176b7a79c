// Package guard is the privileged half of smtpwall: it puts the rules up, in the
// mode that is configured or was ordered, puts them back when somebody changes
// them, keeps in them the relays' addresses and what is allowed to connect
// directly, makes an audit event of each attempt that they block, and passes the
// answers that this host gets from name servers on to the proxy.
//
// It trusts the kernel's word on who owns a socket, and the name servers as far
// as a relay's address goes: TLS verifies the relay, and only the proxy's user
// may connect there. It does not trust who connects to its socket: the kernel
// names the peer's uid, and requests are bounded in size, number and time. What
// /proc says of a process is observed, not proven. The answers that it passes on
// are anybody's: it does not look into them. Of its own state on disk, what
// others than root could have written, or what is damaged, allows nothing and takes
// no block down: a mode file that is there and says nothing that can be believed
// enforces.
//
// Run applies the rules first and then starts its loops, each in a goroutine
// that Run waits for: relays, watch, drift, trial, direct, log, attempts,
// lookups, socket. A loop that fails is started again and is a condition
// meanwhile; none takes the rules down. All methods may be called from any
// goroutine. What changes the rules as a whole (an order, a reload, the end of a
// trial, a unit that started) does so one after the other, each given what is so
// by then.
//
// Lifetimes of addresses are those of DNS (RFC 1035, RFC 2308). Answers of the
// hosts file come first. The socket speaks JSON (RFC 8259), one text a line.
//
// Not here: the rules themselves (rules), the kernel's side of them
// (rules/nft), reading a configuration, and systemd's protocol, which the app
// joins on by the hooks in Options.
package guard
