package trust

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestReadAuthorityOfAHostileOwner: the root certificate's file is the proxy's, and root reads it; what the proxy's
// user could put there instead neither holds nor fills root.
func TestReadAuthorityOfAHostileOwner(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"a link to a device": func(path string) error { return os.Symlink("/dev/zero", path) },
		"a pipe":             func(path string) error { return syscall.Mkfifo(path, 0o666) },
		"a directory":        func(path string) error { return os.Mkdir(path, 0o755) },
		"a large file":       func(path string) error { return os.WriteFile(path, make([]byte, maxCertificate+1), 0o644) },
	} {
		path := filepath.Join(t.TempDir(), "root.pem")
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := readAuthority(path)
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

// TestReadAuthority: the proxy's user cannot have another CA trusted under our name by mistake, and what stands around
// the certificate goes nowhere.
func TestReadAuthority(t *testing.T) {
	ca := newCA(t, caOptions{})
	text := readFile(t, ca.path)
	path := filepath.Join(t.TempDir(), "root.pem")
	for _, test := range []struct{ name, text, want string }{
		{"as it is", text, ""},
		{"with words around", "words\n" + text + "more words\n", ""},
		{"another CA", readFile(t, newCA(t, caOptions{organization: "somebody"}).path), "not a local CA of smtpwall but"},
		{"a leaf", string(pemOf("CERTIFICATE", ca.leaf(t).Certificate[0])), "not a CA's certificate"},
		{"a key", string(pemOf("PRIVATE KEY", []byte("k"))), "no PEM certificate"},
		{"nothing", "", "no PEM certificate"},
	} {
		writeFile(t, path, test.text, 0o644)
		a, err := readAuthority(path)
		switch {
		case test.want == "" && (err != nil || string(a.pem) != text || a.name != ca.name):
			t.Errorf("%s: %+v: %v", test.name, a, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
}
