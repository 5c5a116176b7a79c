package certs

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// silence is a listener that nobody can connect to, for certmagic's own solvers, which insist on serving challenges
// somewhere while they are under way: they take an address of the form fd/NUMBER. They must bind no port: another
// program may want it, and the proxy may not.
type silence struct {
	mu    sync.Mutex
	file  *os.File
	ports int
}

// open returns the address, with the listener's socket in directory for a moment.
func (s *silence) open(directory string) (address string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		s.file, err = listenUnreachable(directory)
	}
	if err != nil { // a full disk, for example; names in the abstract space stand in /proc/net/unix for everybody
		s.file, err = listenAs("@smtpwall-" + rand.Text())
		if err == nil {
			err = syscall.Shutdown(int(s.file.Fd()), syscall.SHUT_RD) // and nobody connects all the same
		}
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("fd/%d", s.file.Fd()), nil
}

// listenUnreachable makes a socket whose name is gone again. Through a descriptor of its directory the name is short
// enough for any directory.
func listenUnreachable(directory string) (*os.File, error) {
	parent, err := os.Open(directory)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	const name = "unreachable.sock"
	_ = os.Remove(filepath.Join(directory, name)) // of a killed process
	return listenAs(fmt.Sprintf("/proc/self/fd/%d/%s", parent.Fd(), name))
}

func listenAs(name string) (*os.File, error) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: name})
	if err != nil {
		return nil, err
	}
	defer listener.Close() // removes the name, but not the socket
	return listener.File()
}

// port tells the servers of two names apart; nothing listens there.
func (s *silence) port() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports = s.ports%65535 + 1
	return s.ports
}

func (s *silence) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}
