// Package systemd runs smtpwall under a real service manager: systemd as
// process 1 of a container that the test boots, reboots and throws away, with a
// network of its own and another host beside it.
//
// It trusts the container's isolation for what happens inside, and asks the
// kernel and the service manager, not smtpwall, whether something is so. What
// the container's kernel view cannot enforce (memory limits, BPF filters) is
// not tested here.
//
// The tests share one container and run in the order in which they are written,
// as an administrator would go: install, start, reload, break, reboot.
//
// The service manager is that of Debian 12, systemd 252, the oldest that the
// units are written for.
//
// A real ACME server (Pebble) and a name server are beside it while the tests of
// certificates run.
//
// Not here: what the proxy and the rules do in detail (test/e2e, test/netns), and
// certificates beyond what the sandbox lets in (test/acme, test/trust).
// The root file system is built once, about a minute, and kept in
// $XDG_CACHE_HOME/smtpwall-test; remove that folder to have it built anew.
package systemd
