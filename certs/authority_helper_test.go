package certs

import (
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// serveHTTPS answers on a port of its own with the certificates of m, until the test ends.
func serveHTTPS(t *testing.T, m *Manager) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{TLSConfig: m.TLSConfig().Clone(), Handler: http.NotFoundHandler(), ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.ServeTLS(listener, "", "")
	}()
	t.Cleanup(func() {
		server.Close()
		<-ended
	})
	return listener.Addr().String()
}

// digestTree is one value for the names, modes and contents of the files below directory.
func digestTree(t *testing.T, directory string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(h, "%s %s %x\n", path, info.Mode(), sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(h.Sum(nil))
}

// verifyOpenSSL asks openssl, strictly, whether leaf chains to the local CA in directory; identity is what it is to be
// for, as openssl's options.
func verifyOpenSSL(t *testing.T, leaf []byte, directory string, identity ...string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "leaf.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}), 0o600); err != nil {
		t.Fatal(err)
	}
	arguments := slices.Concat([]string{"verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath", "-no-CAstore",
		"-CAfile", RootFile(directory)}, identity, []string{file})
	if output, err := exec.Command("openssl", arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("openssl verify: %w: %s", err, output)
	}
	return nil
}
