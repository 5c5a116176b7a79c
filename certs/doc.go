// Package certs keeps the certificates that the listeners show, and hands out
// one *tls.Config that stays the same for the life of the process. There are
// two sources: the local CA, made on the host at first use, and a pair of
// files that some other program renews. Whatever the source, the local CA
// certifies localhost, the host's names and addresses, and the names that
// clients of redirected connections ask for. TrustInstall and TrustRemove put
// the CA's root into the system's store and take it out.
//
// It trusts its own directory, and reads a root only whose key matches and is
// closed to others; it never replaces a damaged one. It does not trust the
// ClientHello: the name in it is checked as a host name, put before AllowName,
// and signed at a bounded rate into a bounded memory. Nor does it trust that
// two files change together: a certificate without its key is not loaded.
//
// A Manager is safe for concurrent use. A handshake reads one immutable
// generation through an atomic pointer; Reload builds the next generation
// whole and then swaps it. Each generation owns certmagic's maintenance
// goroutine and, with files, one that watches them; both end before Reload or
// Close returns.
//
// Standards: RFC 5280 (certificates), RFC 6066 section 3 (server name), RFC
// 9525 (names in certificates), RFC 5890 (A-labels), RFC 7093 (key
// identifiers), RFC 8446 and 5246 (TLS 1.3 and 1.2).
//
// Not here: who may be asked for which name (policy, through AllowName), how a
// connection was redirected (proxy/peer, through OriginalDestination), the
// verification of a relay's certificate (proxy/relay), and reading the
// configuration (internal/config).
package certs
