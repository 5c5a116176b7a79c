package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHashFile tries accounts whose hash is in a file of its own.
func TestHashFile(t *testing.T) {
	hash := argon("m=65536,t=3,p=4")
	for _, c := range []struct {
		name    string
		key     string
		content string
		mode    os.FileMode
		want    string // the hash, or
		problem string // a part of the message
	}{
		{"plain", "password", hash + "\n", 0o600, hash, ""},
		{"group may read", "password", hash, 0o640, hash, ""},
		{"stored key", "scram", "SCRAM-SHA-256$4096:c29tZXNhbHQ=$" + aStored + ":" + aStored, 0o400, "SCRAM-SHA-256$4096:c29tZXNhbHQ=$" + aStored + ":" + aStored, ""},
		{"others may read", "password", hash, 0o644, "", "can be read by everybody (mode 0644)"},
		{"others may write", "password", hash, 0o602, "", "can be changed by others"},
		{"group may write", "password", hash, 0o660, "", "can be changed by others"},
		{"two lines", "password", hash + "\n" + hash, 0o600, "", "more than one line"},
		{"empty", "password", "", 0o600, "", "is empty"},
		{"the password itself", "password", hunter2, 0o600, "", "must be a hash"},
		{"weak", "password", argon("m=8192,t=1,p=1"), 0o600, "", "too weak"},
		{"a hash for a key", "scram", hash, 0o600, "", "must be SCRAM-SHA-256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "webshop")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			chmod(c.mode)(t, path)
			text := fmt.Sprintf("[[account]]\nname = \"webshop\"\n%s = { file = %q }\n", c.key, path)
			config, problems := Parse("f.toml", []byte(text), Options{})
			told := show(problems)
			if strings.Contains(told, hunter2) || strings.Contains(told, aKey) {
				t.Errorf("a problem tells the content: %s", told)
			}
			if c.problem != "" {
				if config != nil || !strings.Contains(told, c.problem) || problems[0].Line != 3 || problems[0].Key != "account."+c.key+".file" {
					t.Errorf("got %swant %q", told, c.problem)
				}
				return
			}
			if config == nil || config.Accounts[0].Password+config.Accounts[0].SCRAM != c.want {
				t.Errorf("got %+v, %s", config, told)
			}
			skipped, problems := Parse("f.toml", []byte(text), Options{SkipSecrets: true})
			if skipped == nil || skipped.Accounts[0].Password+skipped.Accounts[0].SCRAM != "" {
				t.Errorf("for the guard: %+v, %s", skipped, show(problems))
			}
		})
	}
}
