package certs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mholt/acmez/v3/acme"
)

func tokenFile(root, token string) string { return filepath.Join(root, challengePath, token) }

// TestWebRoot: a file that everybody reads, whatever the umask, and that goes again.
func TestWebRoot(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	root := t.TempDir()
	w := webRoot(root)
	challenge := acme.Challenge{Token: "tok_en-1", KeyAuthorization: "tok_en-1.thumbprint"}
	for range 2 { // again after a restart
		if err := w.Present(challenge); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(tokenFile(root, "tok_en-1"))
	if err != nil || string(content) != challenge.KeyAuthorization {
		t.Errorf("%q: %v", content, err)
	}
	for path, want := range map[string]fs.FileMode{"tok_en-1": 0o644, ".": 0o755, "..": 0o755} {
		if info, err := os.Stat(tokenFile(root, path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, want mode %o: %v", path, info.Mode(), want, err)
		}
	}
	for range 2 {
		if err := w.CleanUp(challenge); err != nil {
			t.Error(err)
		}
	}
	if err := w.check(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(tokenFile(root, "")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v: %v", left, err)
	}
}

// TestWebRootHostile: whoever owns the web root, and a CA with odd tokens, reach nothing outside.
func TestWebRootHostile(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "token")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		token string
		set   func(t *testing.T, root string)
		fails bool
	}{
		"directory is a link":      {"token", func(t *testing.T, root string) { link(t, outside, root, ".well-known") }, true},
		"directory is a link back": {"token", func(t *testing.T, root string) { link(t, "../../..", root, ".well-known") }, true},
		"inner directory is a link": {"token", func(t *testing.T, root string) {
			mkdir(t, root, ".well-known")
			link(t, outside, root, ".well-known", "acme-challenge")
		}, true},
		"file is a link": {"token", func(t *testing.T, root string) {
			mkdir(t, root, ".well-known", "acme-challenge")
			link(t, victim, root, challengePath, "token")
		}, false}, // the link is replaced
		"file is a directory": {"token", func(t *testing.T, root string) { mkdir(t, root, challengePath, "token") }, true},
		"token climbs":        {"../../../token", func(*testing.T, string) {}, true},
		"token is a path":     {"a/b", func(*testing.T, string) {}, true},
		"token is empty":      {"", func(*testing.T, string) {}, true},
		"token has a NUL":     {"a\x00", func(*testing.T, string) {}, true},
		"token is long":       {strings.Repeat("a", 1000), func(*testing.T, string) {}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			test.set(t, root)
			challenge := acme.Challenge{Token: test.token, KeyAuthorization: "answer"}
			if err := webRoot(root).Present(challenge); (err != nil) != test.fails {
				t.Errorf("presenting: %v", err)
			}
			_ = webRoot(root).CleanUp(challenge)
			left, err := os.ReadDir(outside)
			content, readErr := os.ReadFile(victim)
			if err != nil || len(left) != 1 || readErr != nil || string(content) != "precious" {
				t.Errorf("outside: %v %q: %v %v", left, content, err, readErr)
			}
		})
	}
	if err := webRoot(filepath.Join(outside, "absent")).check(); err == nil {
		t.Error("a web root that is not there was made")
	}
}

func mkdir(t *testing.T, path ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(path...), 0o755); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to string, path ...string) {
	t.Helper()
	if err := os.Symlink(to, filepath.Join(path...)); err != nil {
		t.Fatal(err)
	}
}
