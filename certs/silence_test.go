package certs

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSilence: nobody connects, wherever the socket had to be made.
func TestSilence(t *testing.T) {
	for _, directory := range []string{t.TempDir(), filepath.Join(t.TempDir(), "absent")} {
		s := &silence{}
		address, err := s.open(directory)
		if err != nil || !strings.HasPrefix(address, "fd/") {
			t.Fatalf("%q: %v", address, err)
		}
		listener, err := net.FileListener(s.file)
		if err != nil {
			t.Fatal(err)
		}
		listener.(*net.UnixListener).SetUnlinkOnClose(false)
		if name := listener.Addr().String(); strings.HasPrefix(name, "@") {
			if conn, err := net.Dial("unix", name); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("connected to %s: %v: %v", name, conn, err)
			}
		}
		if _, err := os.Stat(filepath.Join(directory, "unreachable.sock")); err == nil {
			t.Error("the name is left")
		}
		listener.Close()
		s.close()
	}
}
