package pebble

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// keepPort gets a free TCP port from the kernel and keeps it: a socket that is
// bound to it and does not listen. A server that sets SO_REUSEADDR, as those in
// Go do, can listen there beside it; while none does, connecting is refused and
// nobody else is given the port.
func keepPort(network Network, address netip.Addr) (kept *os.File, at netip.AddrPort, err error) {
	err = network.Do(func() error {
		kept, at, err = bindFree(address)
		return err
	})
	if err != nil {
		return nil, netip.AddrPort{}, fmt.Errorf("getting a port at %s: %w", address, err)
	}
	return kept, at, nil
}

func bindFree(address netip.Addr) (*os.File, netip.AddrPort, error) {
	family, where := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: address.As16()})
	if address.Is4() {
		family, where = unix.AF_INET, &unix.SockaddrInet4{Addr: address.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, where))
	var bound unix.Sockaddr
	if err == nil {
		bound, err = unix.Getsockname(fd)
	}
	if err != nil {
		return nil, netip.AddrPort{}, errors.Join(err, unix.Close(fd))
	}
	port := 0
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		port = b.Port
	case *unix.SockaddrInet6:
		port = b.Port
	}
	at := netip.AddrPortFrom(address, uint16(port))
	return os.NewFile(uintptr(fd), at.String()), at, nil
}
