// Package lab makes throw-away networks for tests and for "smtpwall demo": a
// protected host, a remote that stands for the internet, and optionally a
// container behind a bridge of the host. Each is a network namespace of this
// process; nothing outside of them is touched.
//
// It trusts its caller to be root and to close the lab. Namespaces have no
// name in the file system: the kernel takes them away with the last process,
// socket or descriptor that uses them, so a killed test leaves nothing behind.
//
// A Lab and its Namespaces may be used from many goroutines. A function run by
// Namespace.Do runs on the caller's goroutine, locked to a thread that is
// inside; goroutines that it starts are outside.
//
// Addresses are those kept for documentation: RFC 5737 and RFC 3849.
//
// Not here: firewall rules, and programs that run inside. The lab gives wires
// and addresses; it needs no kernel module beyond veth and bridge.
package lab
