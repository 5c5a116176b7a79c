package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// logs makes a configuration with the given audit logs.
func logs(t *testing.T, transactions, attempts string) (config string) {
	t.Helper()
	config = file(t, "[audit]\ndirectory = \"DIR\"\n")
	for name, text := range map[string]string{"transactions.jsonl": transactions, "attempts.jsonl": attempts} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(config), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config
}

const (
	loggedTransaction = `{"time":"2026-11-21T00:00:01.000Z","kind":"transaction","txn":"T1"}` + "\n"
	loggedAttempt     = `{"time":"2026-11-21T00:00:02.000Z","kind":"attempt","peer_uid":33}` + "\n"
)

// Who can spoil a line of one log must not hide what comes after it.
func TestLogGoesOnAfterABadLine(t *testing.T) {
	path := logs(t, loggedTransaction+"garbage\n", loggedAttempt)
	status, out, err := run(t, "", "log", "--json", "--config", path)
	if status != exitFailed || strings.Count(out, "\n") != 2 || !strings.Contains(out, `"peer_uid":33`) {
		t.Errorf("status %d, printed %q", status, out)
	}
	if !strings.Contains(err, "transactions.jsonl, line 2: ") || !strings.Contains(err, "could not be read: 1\nhint: ") {
		t.Errorf("stderr %q", err)
	}
	path = logs(t, strings.Repeat("garbage\n", 1000), loggedAttempt)
	status, out, err = run(t, "", "log", "--kind", "attempt", "--config", path)
	if status != exitFailed || !strings.Contains(out, "33") || strings.Count(err, "\n") != maxLogErrors+2 || !strings.Contains(err, "read: 1000") {
		t.Errorf("after 1000 bad lines: status %d, printed %q, stderr %q", status, out, err)
	}
}

// The proxy's log must not hold what only the guard can know, or the reverse.
func TestLogBelievesEachWriterItsOwnKinds(t *testing.T) {
	path := logs(t, loggedTransaction, loggedAttempt)
	if status, _, err := run(t, "", "log", "--config", path); status != exitDone || err != "" {
		t.Errorf("honest logs: status %d, stderr %q", status, err)
	}
	path = logs(t, loggedAttempt, loggedTransaction)
	status, out, err := run(t, "", "log", "--user", "33", "--config", path)
	if status != exitFailed || out != "" || strings.Count(err, "does not belong here") != 2 {
		t.Errorf("forged events: status %d, printed %q, stderr %q", status, out, err)
	}
}
