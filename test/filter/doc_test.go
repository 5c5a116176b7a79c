// Package filter_test asks Debian's rspamd, opendkim and ClamAV what proxy/filter makes
// of them. Each runs in a private directory and a network namespace with nothing
// in it, and is spoken to over a Unix socket.
package filter_test
