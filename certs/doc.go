// Package certs keeps the certificates that the listeners show, and hands out
// one *tls.Config that stays the same for the life of the process. There are
// three sources: the local CA, made on the host at first use, a pair of files
// that some other program renews, and a CA that speaks ACME. Whatever the source,
// the local CA certifies localhost, the host's names and addresses, and the names
// that clients of redirected connections ask for, and its certificate stands in
// for the source's as long as there is none that is good.
//
// It trusts its own directory, and reads a root only whose key matches and is
// closed to others; it never replaces a damaged one. It does not trust the
// ClientHello: the name in it is checked as a host name, put before AllowName,
// and signed at a bounded rate into a bounded memory. Nor does it trust that
// two files change together: a certificate without its key is not loaded. What a
// CA answers is bounded in size and time, what it issues is looked at before it is
// stored, what it says is shown as one bounded line, its tokens become no paths and
// its names no arguments; whoever owns a web root leads it nowhere else. Strangers at the listeners for
// challenges get no answer, little time and few connections.
//
// A Manager is safe for concurrent use. A handshake reads one immutable
// generation through an atomic pointer; Reload builds the next generation
// whole and then swaps it. Each generation owns certmagic's maintenance
// goroutine for the local CA and, with files, one that watches them; both end
// before Reload or Close returns. The goroutines of ACME, one for each name, live
// on over a Reload that leaves its options alone, and else end by themselves;
// Close waits for them, though not for a CA that is silent.
//
// Standards: RFC 5280 (certificates), RFC 6066 section 3 (server name), RFC
// 9525 (names in certificates), RFC 5890 (A-labels), RFC 7093 (key
// identifiers), RFC 8446 and 5246 (TLS 1.3 and 1.2), RFC 8555 (ACME), RFC 8737
// (tls-alpn-01), RFC 9773 (when to renew), RFC 6960 (OCSP).
//
// Not here: who may be asked for which name (policy, through AllowName), how a
// connection was redirected (proxy/peer, through OriginalDestination), the
// records of dns-01 (certs/dns01), the clients' trust in the local CA
// (certs/trust), the verification of a relay's certificate (proxy/relay), and
// reading the configuration (internal/config).
package certs
