package systemd_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/systemd"
)

func TestCredential(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := systemd.Credential("relay-main"); !errors.Is(err, systemd.ErrNoCredentials) {
		t.Errorf("error %v, want ErrNoCredentials", err)
	}
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for _, file := range []string{"relay-main", "smtpwall_relay-main", "smtpwall_relay-second"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte("secret"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	for name, file := range map[string]string{
		"relay-main":   "relay-main", // a directive of its own goes before the folder
		"relay-second": "smtpwall_relay-second",
	} {
		if path, err := systemd.Credential(name); err != nil || path != filepath.Join(dir, file) {
			t.Errorf("%s: got %q, %v; want %s", name, path, err, file)
		}
	}
	if _, err := systemd.Credential("relay-other"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `"relay-other"`) {
		t.Errorf("error %v, want one that names the credential", err)
	}
	for _, name := range []string{"", ".", "..", "../relay-main", "a/b", "/etc/shadow", "a:b", "a b"} {
		if path, err := systemd.Credential(name); err == nil {
			t.Errorf("name %q gave %q", name, path)
		}
	}
}
