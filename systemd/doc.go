// Package systemd speaks the service manager's small protocols: readiness and
// reload notifications, the watchdog, listening sockets that were opened for
// us, descriptors that are kept across a restart, and credentials. The unit
// files that rely on them stand in the same folder.
//
// It trusts the environment that the manager set up for this process, and only
// when that environment is addressed to it: sockets meant for another process
// id are left alone. Outside a manager every notification is a successful
// no-op, so callers need no second code path. Descriptors and credential files
// are handed on unread.
//
// All functions may be called from any goroutine, but for Passed, which takes
// the sockets out of the environment and so is called once, early, by main.
// Nothing here starts a goroutine or keeps state.
//
// The protocols are those of sd_notify(3), sd_watchdog_enabled(3),
// sd_listen_fds(3) and systemd.exec(5) "Credentials", as of systemd 252.
//
// Not here: what a reload does, which sockets are wanted and what a healthy
// process is. The wiring in internal/app decides that.
package systemd
