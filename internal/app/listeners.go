package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy"
	"github.com/smtpwall/smtpwall/systemd"
)

// listener is one place where the proxy accepts, and as what.
type listener struct {
	net.Listener
	role proxy.Role
}

// openListeners takes the listeners that were passed to us, or opens those of
// the configuration where none were.
func openListeners(ctx context.Context, listen config.Listen, passed []systemd.Socket, log *zap.Logger) (mail []listener, commands net.Listener, err error) {
	if len(passed) > 0 {
		return adoptListeners(listen, passed)
	}
	if mail, err = bindListeners(ctx, listen); err != nil {
		return nil, nil, err
	}
	return mail, bindAdmin(listen, -1, log), nil
}

// bindAdmin opens the socket of the commands, for a group's members beside root
// and ourselves; it is nil if the configuration wants none. Mail goes on without
// it.
func bindAdmin(listen config.Listen, gid int, log *zap.Logger) net.Listener {
	if listen.Admin == "" {
		return nil
	}
	socket, err := admin.Listen(listen.Admin, gid)
	if err != nil {
		log.Error("no socket for the commands queue, hold and status", zap.Error(err))
		return nil
	}
	return socket
}

// adoptListeners gives each passed socket the role that the configuration has
// for its address, so that a unit file cannot turn TLS off by a wrong name.
func adoptListeners(listen config.Listen, passed []systemd.Socket) (mail []listener, commands net.Listener, err error) {
	defer func() {
		if err != nil {
			closeListeners(mail)
		}
	}()
	for _, socket := range passed {
		inner, err := socket.Listener()
		if err != nil {
			return mail, nil, fmt.Errorf("taking over the passed socket %q: %w", socket.Name, err)
		}
		if address, ok := inner.Addr().(*net.UnixAddr); ok && address.Name == listen.Admin {
			commands = inner
			continue
		}
		role, ok := roleOf(inner.Addr(), listen)
		if !ok {
			_ = inner.Close()
			return mail, nil, fmt.Errorf("the passed socket %s is not in [listen]: make smtpwall.socket, smtpwall-admin.socket and the configuration agree", inner.Addr())
		}
		mail = append(mail, listener{inner, role})
	}
	return mail, commands, nil
}

func roleOf(address net.Addr, listen config.Listen) (proxy.Role, bool) {
	if unixAddress, ok := address.(*net.UnixAddr); ok {
		return proxy.Socket, unixAddress.Name == listen.Socket
	}
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return "", false
	}
	own := netip.AddrPortFrom(tcp.AddrPort().Addr().Unmap(), tcp.AddrPort().Port())
	for role, addresses := range roles(listen) {
		for _, wanted := range addresses {
			if wanted == own {
				return role, true
			}
		}
	}
	return "", false
}

func roles(listen config.Listen) map[proxy.Role][]netip.AddrPort {
	return map[proxy.Role][]netip.AddrPort{
		proxy.Submission:  listen.Submission,
		proxy.Submissions: listen.Submissions,
		proxy.Alternate:   listen.Alternate,
	}
}

// bindListeners opens the listeners of the configuration.
func bindListeners(ctx context.Context, listen config.Listen) ([]listener, error) {
	var all []listener
	for role, addresses := range roles(listen) {
		for _, address := range addresses {
			inner, err := listenTCP(ctx, address)
			if errors.Is(err, unix.EAFNOSUPPORT) && address.Addr().Is6() {
				continue // a kernel without IPv6: nobody can come or leave that way
			}
			if err != nil {
				closeListeners(all)
				return nil, fmt.Errorf("listening for %s: %w", role, err)
			}
			all = append(all, listener{inner, role})
		}
	}
	if listen.Socket == "" {
		return all, nil
	}
	inner, err := listenUnix(listen.Socket)
	if err != nil {
		closeListeners(all)
		return nil, fmt.Errorf("listening on the local socket: %w", err)
	}
	return append(all, listener{inner, proxy.Socket}), nil
}

// listenTCP opens a plain TCP socket: with MPTCP, Go's default, the original
// destination and the owner of the peer's socket could not be asked for. Each
// family has its own, so that IPv6 never takes IPv4's place. An address that the
// host does not have yet, or IPv6's loopback where IPv6 is switched off, is
// bound all the same, as the packaged socket unit does.
func listenTCP(ctx context.Context, address netip.AddrPort) (net.Listener, error) {
	network := "tcp4"
	if address.Addr().Is6() {
		network = "tcp6"
	}
	// A session has its own time limits; keep-alive would be four system calls
	// for each connection.
	lc := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, conn syscall.RawConn) error {
		var err error
		control := conn.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
			if network == "tcp6" {
				err = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1),
					unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
			}
		})
		return errors.Join(control, err)
	}}
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, network, address.String())
}

// listenUnix makes the local socket, in place of one that a dead process left.
// Anybody on the host may connect: the kernel says who it is.
func listenUnix(path string) (net.Listener, error) {
	if err := admin.RemoveStale(path); err != nil {
		return nil, err
	}
	inner, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		_ = inner.Close()
		return nil, err
	}
	return inner, nil
}

func closeListeners(all []listener) {
	for _, l := range all {
		_ = l.Close()
	}
}

// equalListen says whether two configurations listen on the same places.
func equalListen(a, b config.Listen) bool {
	return a.Socket == b.Socket && a.Admin == b.Admin && slices.Equal(a.Submission, b.Submission) &&
		slices.Equal(a.Submissions, b.Submissions) && slices.Equal(a.Alternate, b.Alternate)
}
