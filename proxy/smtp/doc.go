// Package smtp is the wire of SMTP in both directions: commands, paths and
// their parameters, replies, enhanced status codes and the strict codec for
// message data. It knows no connection and no clock.
//
// It trusts nothing that it parses. Only CRLF ends a line and only CRLF.CRLF
// ends the data; a bare CR or LF is an error, never a line end, which is what
// keeps two servers from seeing two different messages in one stream.
//
// No value here is safe for use by several goroutines at once, and none needs
// to be: a session owns its reader, its decoder and its replies.
//
// Standards: RFC 5321 (SMTP), RFC 1870 (SIZE), RFC 2034 and 3463 (enhanced
// status codes), RFC 2920 (PIPELINING), RFC 3030 (CHUNKING), RFC 3461 (DSN),
// RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8).
//
// Not here: sockets, TLS and deadlines (package proxy and package relay), who
// may send what (package policy), SASL (package auth).
package smtp
