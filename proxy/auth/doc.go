// Package auth checks passwords and client certificates for the peers that the
// kernel cannot vouch for: SASL exchanges over the accounts of the
// configuration. It also plays the server of an exchange that checks nothing,
// for connections that were redirected on their way to somebody else's server.
//
// It trusts the accounts, and nothing that a client sends. A name that exists
// costs a client the same time as one that does not; a failure is never quicker
// than the hash. A password is kept in no form but its hash and a keyed digest
// that dies with the process; it is in no error, and the octets that carried it
// are overwritten. A certificate is trusted for its fingerprint, which an account
// lists, and within its dates; who signed it is not asked, and that the client
// has its key is for the handshake to prove. What a redirected client sends is
// forgotten at once, its name included: with some providers the name is the
// secret.
//
// A Store and a Throttle may be used by many goroutines; at most
// Options.Concurrency hashes are computed at a time, since each takes memory.
// An Exchange belongs to one session.
//
// SASL is RFC 4422; in SMTP RFC 4954; PLAIN RFC 4616; SCRAM-SHA-256 RFC 5802
// and RFC 7677; EXTERNAL RFC 4422 appendix A; LOGIN draft-murchison-sasl-login;
// CRAM-MD5 RFC 2195; OAUTHBEARER RFC 7628; argon2 RFC 9106. Mechanisms are
// go-sasl servers, but our own ones: those of the library copy the password into
// strings, which nobody can overwrite.
//
// Not here: whether AUTH is offered at all (package proxy, by TLS and listener),
// what an account may send (proxy/policy), and AUTH to the relay (proxy/relay).
package auth
