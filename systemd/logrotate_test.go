package systemd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestLogrotateBoundsTheSize: a log that grew too much is rotated on the day of
// its last rotation, and gets a name of its own.
func TestLogrotateBoundsTheSize(t *testing.T) {
	dir := t.TempDir()
	rules, err := os.ReadFile("logrotate.d/smtpwall")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("/var/log/smtpwall", dir, "0640 smtpwall smtpwall", "0640", "0640 root smtpwall", "0640").Replace(string(rules))
	config, state := filepath.Join(dir, "config"), filepath.Join(dir, "state")
	big, small := filepath.Join(dir, "attempts.jsonl"), filepath.Join(dir, "transactions.jsonl")
	rotated := time.Now().Format("2006-1-2-15:4:5")
	for path, content := range map[string]string{
		config: "dateext\n" + text, big: "{}\n", small: "{}\n",
		state: fmt.Sprintf("logrotate state -- version 2\n%q %s\n%q %s\n", big, rotated, small, rotated),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(big, 101<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o750); err != nil { // else logrotate does not trust it
		t.Fatal(err)
	}
	if out, err := exec.Command("logrotate", "--state", state, config).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	named := regexp.MustCompile(`-\d{8}-\d{10}$`)
	for path, want := range map[string]int{big: 1, small: 0} {
		names, err := filepath.Glob(path + "-*")
		if err != nil || len(names) != want {
			t.Errorf("%s was rotated to %q, want %d files", path, names, want)
		}
		for _, name := range names {
			if !named.MatchString(name) {
				t.Errorf("%s has no time in its name", name)
			}
		}
	}
}
