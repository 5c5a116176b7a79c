package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Command prepares a program to run inside the namespace. It starts nsenter,
// which becomes the program: the process id is the program's own.
func (n *Namespace) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	inside := append([]string{"--net=" + n.Path(), "--", name}, args...)
	return exec.CommandContext(ctx, "nsenter", inside...)
}

// AsUser lets a command made by Command run under another uid and gid, without
// supplementary groups. It changes and returns cmd.
func AsUser(cmd *exec.Cmd, uid, gid uint32) *exec.Cmd {
	cmd.Args = slices.Insert(cmd.Args, 1, fmt.Sprintf("--setuid=%d", uid), fmt.Sprintf("--setgid=%d", gid))
	return cmd
}

// Listen opens a TCP listener inside the namespace. Port 0 lets the kernel
// choose; the listener's Addr tells. It is plain TCP, never MPTCP.
func (n *Namespace) Listen(addr netip.AddrPort) (*net.TCPListener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	var ln net.Listener
	err := n.Do(func() (err error) {
		ln, err = lc.Listen(context.Background(), network(addr.Addr()), addr.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listening on %s in %s: %w", addr, n.name, err)
	}
	return ln.(*net.TCPListener), nil
}

// Dial opens a TCP connection from inside the namespace, as root.
func (n *Namespace) Dial(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
	return n.DialAs(ctx, 0, addr)
}

// DialAs opens a TCP connection from inside the namespace with a socket that
// belongs to uid. The error is that of the net package, so that a caller can
// tell refused from timed out.
func (n *Namespace) DialAs(ctx context.Context, uid uint32, addr netip.AddrPort) (*net.TCPConn, error) {
	return n.DialFrom(ctx, uid, netip.AddrPort{}, addr)
}

// DialFrom is DialAs with a chosen source address and port, which may have other
// connections to other places.
func (n *Namespace) DialFrom(ctx context.Context, uid uint32, from, to netip.AddrPort) (*net.TCPConn, error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(from)
		d.Control = shareSource
	}
	var conn net.Conn
	err := n.DoAs(uid, uid, func() (err error) {
		conn, err = d.DialContext(ctx, network(to.Addr()), to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

func network(a netip.Addr) string {
	switch {
	case a.Is4():
		return "tcp4"
	case a.Is6():
		return "tcp6"
	}
	return "tcp"
}

// shareSource lets sockets with the same source port connect to different places.
func shareSource(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	return errors.Join(err, failed)
}
