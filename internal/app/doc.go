// Package app builds smtpwall's two processes from their rooms and joins them:
// the guard from the firewall half, the proxy from the mail half. It owns the
// order in which things start, reload and stop.
//
// It trusts the configuration that package config validated, and nothing that
// comes over a socket.
//
// Start, Reload and Stop of one process are called by one goroutine, the one
// that handles signals. What runs beside it is started here and waited for in Stop.
//
// No standard but the service manager's: sd_notify(3), sd_listen_fds(3).
//
// Not here: decisions about mail or packets, and argument parsing (cmd).
package app
