// Package admin is the API through which an administrator sees and changes a
// running proxy: HTTP/1.1 with JSON over a Unix socket, its server and its
// client. The command line stands on it.
//
// It trusts root, the proxy's own user and the members of the socket's group,
// and the kernel's word for who that is (SO_PEERCRED, SO_PEERGROUPS), asked
// before a byte is read. Nobody else gets an answer. Who may connect is still
// not believed to read what it asked for: no request holds more than its own
// goroutine, for a bounded time.
//
// A Server answers each connection on its own goroutine and calls the Reader
// and the Actor from many at once. A Client may be used by many goroutines.
//
// HTTP/1.1 (RFC 9112); answers of many parts are one JSON object a line
// (NDJSON). Keys are those of the spool's files and of package logfields.
//
// Not here: what the answers say, and what becomes of a message (the Reader and
// the Actor, which package app joins to the proxy), and words for people (cmd).
package admin
