// Package trust makes the programs of a host, or of a container's image, trust
// the local CA, and undoes it: in the system's store (Debian, Alpine, Red Hat,
// SUSE and Arch), in the keystores of JDKs that the system does not keep up, and
// in the NSS databases of browsers and mail programs. It tells what is left to do
// for programs that read none of these.
//
// It runs as root, and trusts what only root can change. A JDK that somebody
// else can change is left alone: its keytool would run as root. A database in a
// user's home is looked for, read and written with that user's rights, since the
// user can put links wherever root would follow. The certificate's file belongs to
// the proxy, and is read with care. What tools say they did is checked afterwards.
//
// Each call is independent and keeps no state; two at once on one store are as
// safe as the store's own tools are. A call with another root directory works on a
// thread of its own, which ends with it: no other goroutine sees that root.
//
// Standards: RFC 5280 (certificates), RFC 7468 (PEM). The stores are those of
// update-ca-certificates(8), update-ca-trust(8), keytool(1) and certutil(1).
//
// Not here: the CA itself and what it signs (certs), where its certificate lies
// (certs.RootFile), words for the terminal (cmd/smtpwall).
package trust
