package certs

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The root certificate's file is the proxy's, and root reads it: what the
// proxy's user could put there instead neither holds nor fills root.
func TestReadRootOfAHostileOwner(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"a link to a device": func(path string) error { return os.Symlink("/dev/zero", path) },
		"a pipe":             func(path string) error { return syscall.Mkfifo(path, 0o666) },
		"a directory":        func(path string) error { return os.Mkdir(path, 0o755) },
		"a large file":       func(path string) error { return os.WriteFile(path, make([]byte, maxRoot+1), 0o644) },
	} {
		directory := t.TempDir()
		path := RootFile(directory)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, _, err := readRoot(directory)
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s: taken for a certificate", name)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: it holds the reader", name)
		}
	}
}
