package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// TestSecretNeverPrints shows a secret, alone and inside of other values, with
// everything that prints.
func TestSecretNeverPrints(t *testing.T) {
	const password = "correct horse"
	secret := NewSecret(password)
	inside := struct {
		Exported Secret
		hidden   Secret
		list     []Secret
		pointer  *Secret
	}{secret, secret, []Secret{secret}, &secret}

	var printed bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%10.3s"} {
		fmt.Fprintf(&printed, verb+"\n", secret)
		fmt.Fprintf(&printed, verb+"\n", &secret)
		fmt.Fprintf(&printed, verb+"\n", inside)
		fmt.Fprintf(&printed, verb+"\n", &inside)
		fmt.Fprintf(&printed, verb+"\n", Relay{Password: secret})
	}
	fmt.Fprintln(&printed, fmt.Errorf("login with %v: %w", secret, errors.New("refused")))
	for _, value := range []any{secret, &secret, inside, map[string]Secret{"password": secret}} {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		printed.Write(text)
	}
	slog.New(slog.NewTextHandler(&printed, nil)).Info("login", "password", secret, "relay", Relay{Password: secret})
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&printed), zap.DebugLevel)
	zap.New(core).Info("login", zap.Any("password", secret), zap.Stringer("again", secret), zap.Any("relay", Relay{Password: secret}))

	for _, form := range []string{password, "636f7272656374", "horse", "99 111 114"} {
		if strings.Contains(printed.String(), form) {
			t.Errorf("the secret was printed, as %q:\n%s", form, printed.String())
		}
	}
	if !strings.Contains(printed.String(), "[secret]") {
		t.Error("nothing was printed in its place")
	}
	if secret.Reveal() != password || !secret.IsSet() {
		t.Error("Reveal does not return the secret")
	}
	if (Secret{}).Reveal() != "" || (Secret{}).IsSet() {
		t.Error("the zero Secret is set")
	}
}

// parsePassword parses a relay whose password is given by source.
func parsePassword(source string, options Options) (*Config, []Problem) {
	text := "[relay.main]\naddress = \"smtp.example.com\"\nusername = \"u\"\npassword = " + source + "\n"
	return Parse("smtpwall.toml", []byte(text), options)
}

// TestSecretFile tries files that hold a secret, with good and bad custody.
func TestSecretFile(t *testing.T) {
	cases := []struct {
		name    string
		content string
		prepare func(t *testing.T, path string)
		want    string // the secret, or
		problem string // a part of the message
	}{
		{name: "plain", content: "s3cret", want: "s3cret"},
		{name: "newline", content: "s3cret\n", want: "s3cret"},
		{name: "carriage return", content: "s3cret\r\n", want: "s3cret"},
		{name: "spaces stay", content: " s3 cret \n", want: " s3 cret "},
		{name: "group may read", content: "s3cret", prepare: chmod(0o640), want: "s3cret"},
		{name: "two newlines", content: "s3cret\n\n", problem: "more than one line"},
		{name: "two lines", content: "s3cret\nmore\n", problem: "more than one line"},
		{name: "NUL", content: "s3\x00cret", problem: "more than one line"},
		{name: "not UTF-8", content: "s3cret\xff", problem: "not UTF-8"},
		{name: "empty", content: "", problem: "empty"},
		{name: "only a newline", content: "\n", problem: "empty"},
		{name: "largest", content: strings.Repeat("x", 4096), want: strings.Repeat("x", 4096)},
		{name: "too large", content: strings.Repeat("x", 4097), problem: "longer than 4KiB"},
		{name: "others may read", content: "s3cret", prepare: chmod(0o604), problem: "read by everybody (mode 0604)"},
		{name: "others may write", content: "s3cret", prepare: chmod(0o602), problem: "changed by others than its owner (mode 0602)"},
		{name: "group may write", content: "s3cret", prepare: chmod(0o660), problem: "changed by others than its owner (mode 0660)"},
		{name: "others may replace it", content: "s3cret", prepare: func(t *testing.T, path string) {
			chmod(0o777)(t, filepath.Dir(path))
		}, problem: "everybody can replace files in the directory"},
		{name: "sticky directory", content: "s3cret", prepare: func(t *testing.T, path string) {
			chmod(0o777|os.ModeSticky)(t, filepath.Dir(path))
		}, want: "s3cret"},
		{name: "symbolic link", content: "s3cret", prepare: func(t *testing.T, path string) {
			replace(t, path, func() error { return os.Symlink("/etc/hostname", path) })
		}, problem: "is a symbolic link"},
		{name: "directory", prepare: func(t *testing.T, path string) {
			replace(t, path, func() error { return os.Mkdir(path, 0o700) })
		}, problem: "is not a regular file"},
		{name: "FIFO", prepare: func(t *testing.T, path string) {
			replace(t, path, func() error { return unix.Mkfifo(path, 0o600) })
		}, problem: "is not a regular file"},
		{name: "missing", prepare: func(t *testing.T, path string) {
			replace(t, path, func() error { return nil })
		}, problem: "cannot be read: no such file or directory"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "relay.secret")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.prepare != nil {
				c.prepare(t, path)
			}
			config, problems := parsePassword(fmt.Sprintf("{ file = %q }", path), Options{})
			told := show(problems)
			if strings.Contains(told, "s3cret") {
				t.Errorf("a problem tells the secret: %s", told)
			}
			if c.problem != "" {
				if config != nil || !strings.Contains(told, c.problem) || problems[0].Line != 4 || problems[0].Key != "relay.main.password.file" {
					t.Errorf("got %swant %q", told, c.problem)
				}
				return
			}
			if config == nil {
				t.Fatal(told)
			}
			if got := config.Relays[0].Password.Reveal(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func chmod(mode os.FileMode) func(t *testing.T, path string) {
	return func(t *testing.T, path string) {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
}

// replace removes path and makes something else there.
func replace(t *testing.T, path string, create func() error) {
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := create(); err != nil {
		t.Fatal(err)
	}
}

// TestSecretFileOfAnotherUser needs root to give a file away, as the tests of
// this project have it.
func TestSecretFileOfAnotherUser(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.secret")
	if err := os.WriteFile(path, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 4321, -1); err != nil {
		t.Fatal(err)
	}
	_, problems := parsePassword(fmt.Sprintf("{ file = %q }", path), Options{})
	if told := show(problems); !strings.Contains(told, "belongs to uid 4321, who can change it") {
		t.Errorf("got %s", told)
	}
}

// TestSecretCredential follows a credential from whoever finds it.
func TestSecretCredential(t *testing.T) {
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "relay-main"), []byte("s3cret\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	find := func(name string) (string, error) {
		path := filepath.Join(directory, name)
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("finding credential %q: %w", name, bare(err))
		}
		return path, nil
	}
	config, problems := parsePassword(`{ credential = "relay-main" }`, Options{Credential: find})
	if len(problems) > 0 || config.Relays[0].Password.Reveal() != "s3cret" {
		t.Errorf("a credential was not read: %s", show(problems))
	}

	config, problems = parsePassword(`{ credential = "other" }`, Options{Credential: find})
	if told := show(problems); config != nil || !strings.Contains(told, `finding credential "other": no such file or directory`) ||
		!strings.Contains(told, "/etc/smtpwall/credentials/other") {
		t.Errorf("a missing credential: %s", told)
	}
}

// TestSecretOutsideService makes what only the service can read a warning, and
// nothing else.
func TestSecretOutsideService(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	config, problems := parsePassword(`{ credential = "relay-main" }`, Options{OutsideService: true})
	if config == nil || len(problems) != 1 || problems[0].Severity != Warning || !strings.Contains(problems[0].Message, "not checked") {
		t.Errorf("got %s", show(problems))
	}
	config, problems = parsePassword(`{ env = "SMTPWALL_TEST_UNSET" }`, Options{OutsideService: true})
	if config != nil || !HasErrors(problems) {
		t.Error("an unset variable was accepted")
	}
}

// TestSkipSecrets loads what the guard needs, where no secret can be read.
func TestSkipSecrets(t *testing.T) {
	for _, source := range []string{`{ credential = "relay-main" }`, `{ file = "/nonexistent/secret" }`, `{ env = "SMTPWALL_TEST_UNSET" }`} {
		config, problems := parsePassword(source, Options{SkipSecrets: true})
		if config == nil || len(problems) > 0 {
			t.Errorf("%s: %s", source, show(problems))
			continue
		}
		if config.Relays[0].Password.IsSet() {
			t.Errorf("%s: the secret was read", source)
		}
	}
	if config, _ := parsePassword(`"literal"`, Options{SkipSecrets: true}); config != nil {
		t.Error("a literal secret was accepted")
	}
}
