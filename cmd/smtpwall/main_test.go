package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/config"
)

// run runs a command line with what it reads, and gives what it printed.
func run(t *testing.T, input string, args ...string) (status int, out, err string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := &console{in: strings.NewReader(input), out: &stdout, err: &stderr}
	status = c.main(t.Context(), args)
	return status, stdout.String(), stderr.String()
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		name   string
		args   []string
		status int
		err    string
	}{
		{"nothing", nil, exitUsage, "smtpwall: the outbound mail firewall"},
		{"help", []string{"help"}, exitDone, "smtpwall firewall apply|show|status|remove"},
		{"unknown", []string{"fly"}, exitUsage, "smtpwall: error: unknown command \"fly\"\nhint: smtpwall help lists the commands\n"},
		{"argument too many", []string{"serve", "now"}, exitUsage, "smtpwall: error: unexpected argument \"now\"\n"},
		{"unknown flag", []string{"log", "--loud"}, exitUsage, "flag provided but not defined: -loud"},
		{"flag's help", []string{"log", "--help"}, exitDone, "-follow"},
		{"firewall without a word", []string{"firewall"}, exitUsage, "smtpwall: error: firewall needs apply, show, status or remove\n"},
		{"trust with another word", []string{"trust", "me"}, exitUsage, "smtpwall: error: trust needs install, remove or status\n"},
		{"account without a word", []string{"account"}, exitUsage, "smtpwall: error: account needs the word hash\n"},
		{"mode", []string{"run", "--mode", "sleep"}, exitUsage, "smtpwall: error: unknown mode \"sleep\"\nhint: observe or enforce\n"},
		{"no file", []string{"check", "/nonexistent/smtpwall.toml"}, exitUsage, "smtpwall: error: /nonexistent/smtpwall.toml: cannot be read: no such file or directory\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, out, err := run(t, "", test.args...)
			if status != test.status || !strings.Contains(err, test.err) {
				t.Errorf("status %d, stderr %q; want %d, %q", status, err, test.status, test.err)
			}
			if out != "" {
				t.Errorf("stdout %q", out)
			}
		})
	}
}

// file writes a configuration with its directories in a place of the test's.
func file(t *testing.T, text string) string {
	t.Helper()
	directory := t.TempDir()
	path := filepath.Join(directory, "smtpwall.toml")
	text = strings.ReplaceAll(text, "DIR", directory)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheck(t *testing.T) {
	good := file(t, "mode = \"enforce\"\n[delivery]\nspool = \"DIR/spool\"\n")
	if status, out, err := run(t, "", "check", good); status != exitDone || !strings.Contains(out, "is fine: mode enforce, 0 relays") {
		t.Errorf("a good file: %d, %q, %q", status, out, err)
	}
	bad := file(t, "mode = \"enforced\"\n[relais.main]\n")
	status, _, err := run(t, "", "check", bad)
	if status != exitUsage || strings.Count(err, "smtpwall: error: ") != 2 || strings.Count(err, "hint: ") != 2 {
		t.Errorf("a bad file: %d, %q", status, err)
	}
}

func TestCheckNamesTheRelayThatCannotBeUsed(t *testing.T) {
	path := file(t, "[relay.main]\naddress = \"127.0.0.1:1\"\n[delivery]\nspool = \"DIR/spool\"\n")
	status, _, err := run(t, "", "check", path)
	if status != exitFailed || !strings.Contains(err, "smtpwall: error: relay main: connecting to the relay") {
		t.Errorf("%d, %q", status, err)
	}
	if status, _, err := run(t, "", "check", "--offline", path); status != exitDone {
		t.Errorf("offline: %d, %q", status, err)
	}
}

func TestLogWithoutEvents(t *testing.T) {
	path := file(t, "[audit]\ndirectory = \"DIR/none\"\n")
	status, out, err := run(t, "", "log", "--config", path)
	if status != exitFailed || out != "" || !strings.Contains(err, "hint: events are kept once smtpwall runs") {
		t.Errorf("%d, %q, %q", status, out, err)
	}
}

func TestFirewallShow(t *testing.T) {
	path := file(t, "mode = \"enforce\"\n[relay.main]\naddress = \"192.0.2.7:587\"\n")
	status, out, err := run(t, "", "firewall", "show", "--config", path, "--uid", "990")
	for _, want := range []string{"table inet smtpwall {", "elements = { 192.0.2.7 . 587 }", "meta skuid 990", "reject with tcp reset"} {
		if status != exitDone || !strings.Contains(out, want) {
			t.Errorf("%d: %q is not in the rules; stderr %q", status, want, err)
		}
	}
	status, dry, _ := run(t, "", "firewall", "apply", "--dry-run", "--config", path, "--uid", "990")
	if status != exitDone || dry != out {
		t.Error("a dry run of apply does not print what show prints")
	}
}

func TestAccountHash(t *testing.T) {
	status, out, err := run(t, "open sesame\n", "account", "hash")
	if status != exitDone || !strings.HasPrefix(out, `password = "$argon2id$`) || !strings.Contains(out, `"SCRAM-SHA-256$`) {
		t.Errorf("%d, %q, %q", status, out, err)
	}
	if strings.Contains(out+err, "open sesame") {
		t.Error("the password was printed")
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	path := file(t, "[delivery]\nspool = \"DIR/spool\"\n[[account]]\nname = \"webshop\"\n"+strings.Join(lines, "\n")+"\n")
	if status, _, err := run(t, "", "check", path); status != exitDone {
		t.Errorf("check refuses what hash made: %q", err)
	}
	if status, _, _ := run(t, "\n", "account", "hash"); status != exitFailed {
		t.Error("an empty password was hashed")
	}
}

// Rules that enforce must not become rules that observe because a file is away.
func TestAMissingFileIsNoConfiguration(t *testing.T) {
	path := file(t, "mode = \"enforce\"\n")
	c := &console{err: &bytes.Buffer{}}
	load := c.loader(path, config.Options{SkipSecrets: true})
	if cfg, err := load(); err != nil || cfg.Mode != config.Enforce {
		t.Fatalf("%v, %v", cfg, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if cfg, err := load(); err == nil {
		t.Fatalf("a reload took mode %s from a file that is gone", cfg.Mode)
	}
	if status, _, err := run(t, "", "firewall", "apply", "--config", path, "--uid", "990"); status != exitUsage {
		t.Errorf("firewall apply without its file: %d, %q", status, err)
	}
	fresh := c.loader(path, config.Options{SkipSecrets: true})
	if cfg, err := fresh(); err != nil || cfg.Mode != config.Observe {
		t.Fatalf("a first start without a file: %v, %v", cfg, err)
	}
}
