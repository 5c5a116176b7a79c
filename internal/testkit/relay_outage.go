package testkit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// keptAddress is a listener's while it is down: a socket that is bound to it and
// does not listen, so that connecting is refused and nobody else gets the port.
type keptAddress struct {
	socket   *os.File
	implicit bool
}

// Down ends all connections with a reset and lets nobody connect until Up, as
// the host of a relay does whose service is stopped. Its listeners must be on
// TCP in the network namespace of the caller. Down twice is as once.
func (r *Relay) Down() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, listener := range r.listeners {
		addr := listener.Addr().(*net.TCPAddr)
		err := listener.Close()
		socket, keepErr := keepAddress(addr)
		if errs = append(errs, err, keepErr); keepErr == nil {
			r.kept = append(r.kept, keptAddress{socket, listener.implicit})
		}
	}
	r.listeners = nil
	for s := range r.open {
		reset(s.raw)
	}
	return errors.Join(errs...)
}

// Up listens again where Down has ended it.
func (r *Relay) Up() error {
	r.mu.Lock()
	kept := r.kept
	r.kept = nil
	r.mu.Unlock()
	for _, k := range kept {
		listener, err := k.listen()
		if err != nil {
			return fmt.Errorf("listening for the stand-in relay again: %w", err)
		}
		r.Serve(listener, k.implicit)
	}
	return nil
}

// backlog is how many connections wait to be accepted.
const backlog = 1024

// listen makes a listener of the socket, which is closed.
func (k keptAddress) listen() (net.Listener, error) {
	defer k.socket.Close()
	fd := int(k.socket.Fd())
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) // what connections inherit, for the next time
	if err = errors.Join(err, unix.Listen(fd, backlog)); err != nil {
		return nil, err
	}
	return net.FileListener(k.socket)
}

// keepAddress binds a socket that does not listen.
func keepAddress(addr *net.TCPAddr) (*os.File, error) {
	family, where := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: addr.Port, Addr: [16]byte(addr.IP.To16())})
	if ip := addr.IP.To4(); ip != nil {
		family, where = unix.AF_INET, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(ip)}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("keeping a port: %w", err)
	}
	// Connections to the address may linger, so that it must be shared to get it,
	// and must not be to keep it.
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		bind(fd, where),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keeping port %d: %w", addr.Port, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), addr.String()), nil
}

// bindTries are made a millisecond apart.
const bindTries = 1000

// bind waits for a program that is being started by another goroutine: between
// fork and exec it has a copy of the listener that was closed here.
func bind(fd int, where unix.Sockaddr) (err error) {
	for range bindTries {
		if err = unix.Bind(fd, where); !errors.Is(err, unix.EADDRINUSE) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return err
}
