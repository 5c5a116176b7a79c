package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/rules/nft"
)

func TestSavedRulesetsAreNoticed(t *testing.T) {
	directory := t.TempDir()
	for name, text := range map[string]string{
		"mine.nft":         "flush ruleset\ntable inet filter {\n\tchain smtpwall { }\n}\n",
		"comment.nft":      "# table inet smtpwall {\n",
		"other.nft":        "table inet smtpwall2 {\n}\ntable ip smtpwall {\n}\ntable inet smtpwall-own { }\n",
		"saved.nft":        "table inet filter {\n}\ntable inet smtpwall {\n",
		"below/lock.nft":   "table inet smtpwall_lock { # progname smtpwall\n\tflags owner\n",
		"below/delete.nft": "delete table inet smtpwall;\n",
	} {
		path := filepath.Join(directory, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	var stderr bytes.Buffer
	(&console{err: &stderr}).warnSaved([]string{directory, filepath.Join(directory, "none"), filepath.Join(directory, "saved.nft")})
	for file, times := range map[string]int{"saved.nft:3": 2, "lock.nft:1": 1, "delete.nft:1": 1, "mine.nft": 0, "comment.nft": 0, "other.nft": 0} {
		if n := strings.Count(stderr.String(), file); n != times {
			t.Errorf("%s is mentioned %d times, want %d", file, n, times)
		}
	}
	if n := strings.Count(stderr.String(), "hint: delete all that is said there of tables inet smtpwall and inet smtpwall_lock"); n != 4 {
		t.Errorf("%d hints, want 4:\n%s", n, stderr.String())
	}
}

func TestLockedRulesSayWhoToAsk(t *testing.T) {
	var stderr bytes.Buffer
	c := &console{err: &stderr}
	c.status(needsRoot(fmt.Errorf("removing rules: %w", nft.ErrLocked)))
	for _, want := range []string{
		"smtpwall: error: removing rules: the lock table belongs to another process\n",
		"hint: ", "systemctl clean --what=fdstore smtpwall-guard.service",
	} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("stderr %q lacks %q", stderr.String(), want)
		}
	}
}
