// Package peer says who is on the other end of a connection: the original
// destination of a redirected connection, the uid and the cgroup of the local
// socket behind it, and from these the user, the systemd unit and the
// container. Unknown is a value: a Peer that could not be established has
// Proven false, and is never root.
//
// It trusts the kernel alone. The uid and the cgroup come from one exact
// inet_diag query for the client's socket (or SO_PEERCRED on a Unix socket).
// An answer counts only if it is for the very tuple that was asked, if the
// socket is past its handshake and not a time-wait remnant, and if our own end
// is still open afterwards: until then nobody else can hold the tuple. One thing
// it takes from the ruleset: that a redirected connection whose source port had
// to be changed (ct status snat) is refused before it reaches us, for the port
// that we would ask about is somebody else's then. Names in a cgroup path count up to the first unit or container only, because
// what lies below may be delegated and named by its user. A user with a
// delegated subtree can also make its own unit unknown: deny such users by uid.
//
// An Identifier, a CGroups, a Users and a Processes may each be used by any
// number of goroutines. Identification takes microseconds; a cgroup that was
// never seen before, without CAP_DAC_READ_SEARCH, costs a bounded walk of the
// hierarchy that all who wait for it share.
//
// Kernel interfaces, rather than RFCs: sock_diag(7), inet_diag since Linux 5.8
// (INET_DIAG_CGROUP_ID), cgroup2, SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST of
// netfilter, and systemd's cgroup layout (systemd.io/CGROUP_DELEGATION).
//
// Not here: what the peer may do (proxy/policy), names that the peer claims
// (proxy/auth), and sockets in other network namespaces.
package peer
