// Package proxy is the SMTP server: it accepts connections, identifies their
// peers, speaks the protocol, asks policy, and hands each transaction to an
// approved relay or, while none is configured, to the spool. It is the only
// room that sees all the rooms below it.
//
// It trusts what the kernel says about a peer and nothing that the peer says.
// A credential sent on a redirected connection was meant for somebody else: it
// is taken, checked against nothing, and gone. 250 to the end of data is said
// only after the relay said it, or after the spool synced the message.
//
// A Server is safe for concurrent use. Each session runs on one goroutine, that
// the server owns and waits for; everything in a session belongs to it. What a
// session decides by (Settings) is fixed when it begins.
//
// Standards: RFC 5321, RFC 6409, RFC 8314, RFC 3207, RFC 4954 and the
// extensions of package smtp. docs/conformance.md says where and why we differ.
//
// Not here: where certificates, listeners and settings come from (internal/app),
// the firewall (rules), the wire itself (package smtp).
package proxy
