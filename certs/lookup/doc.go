// Package lookup remembers by which names the host looked addresses up, from the
// DNS answers that came in. A client of a redirected connection that names no
// host in its ClientHello can then be shown a certificate for the name that it
// looked up a moment before.
//
// It trusts no answer. Whoever may send a datagram to a name server of his own
// can have any name noted for any address, and whoever is on the way can too. So
// a name in the table says only that somebody may have meant it: policy still
// decides whether it is signed, and a wrong one helps nobody, because the host
// would sign it as well for whoever named it in a ClientHello. Memory is bounded
// whatever comes; what a flood can do to the names in use stands at Table.
//
// A Table is safe for concurrent use. Time is passed in.
//
// Standards: RFC 1035 section 4.1 (messages), RFC 1034 section 3.6.2 (CNAME),
// RFC 3596 (AAAA), RFC 2181 section 8 (TTL), RFC 4343 (case).
//
// Not here: how answers come here (internal/guard), what is signed (certs), and
// look-ups backwards: whoever owns an address writes its PTR record.
package lookup
