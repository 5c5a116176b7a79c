package config

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the expected results of testdata anew; read the difference before committing it")

// hunter2 is the password that stands, against all advice, in some of testdata.
// No problem may repeat it.
const hunter2 = "hunter2"

// testOptions describes a host with few users, so that results do not depend on
// the one that runs the tests.
func testOptions(t *testing.T) Options {
	t.Helper()
	t.Setenv("SMTPWALL_TEST_PASSWORD", "from the environment")
	t.Setenv("SMTPWALL_TEST_KEY", "c2VjcmV0")
	return Options{
		Machine: &Machine{
			Users:   map[string]string{"root": "0", "www-data": "33", "nobody": "65534"},
			Groups:  []string{"root", "www-data"},
			Units:   map[string]string{"nginx.service": "nginx.service", "mysql.service": "mariadb.service", "mariadb.service": "mariadb.service", "postfix@.service": "postfix@.service"},
			Program: programs,
			Shared:  func(directory string) bool { return directory == "/tmp" },
		},
		Now: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC),
	}
}

// programs stands for what a host has.
func programs(path string) error {
	switch path {
	case "/usr/bin/alert":
		return nil
	case "/tmp/alert":
		return flaw{"others can replace it", "move it"}
	case "/root/alert":
		return &fs.PathError{Op: "lstat", Path: path, Err: fs.ErrPermission}
	}
	return fs.ErrNotExist
}

// each calls test for every file of testdata/folder.
func each(t *testing.T, folder string, least int, test func(t *testing.T, path string, text []byte)) {
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < least {
		t.Fatalf("testdata/%s has %d files, want at least %d", folder, len(paths), least)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".toml"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			test(t, path, text)
		})
	}
}

// expect compares got with the file that stands beside path.
func expect(t *testing.T, path, extension, got string) {
	t.Helper()
	beside := strings.TrimSuffix(path, ".toml") + extension
	if *update {
		if err := os.WriteFile(beside, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(beside)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n--- got ---\n%s--- want ---\n%s", beside, got, want)
	}
}

// show writes problems as people see them.
func show(problems []Problem) string {
	var text strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&text, "%s: %s\n", p.Severity, p)
		if p.Hint != "" {
			fmt.Fprintf(&text, "  hint: %s\n", p.Hint)
		}
	}
	return text.String()
}

// TestBad holds each broken file against the exact problems that it must give.
func TestBad(t *testing.T) {
	each(t, "bad", 50, func(t *testing.T, path string, text []byte) {
		config, problems := Parse(filepath.Base(path), text, testOptions(t))
		if config != nil || !HasErrors(problems) {
			t.Error("accepted")
		}
		got := show(problems)
		if strings.Contains(got, hunter2) {
			t.Errorf("a problem tells the password:\n%s", got)
		}
		for _, p := range problems {
			if p.Line == 0 {
				t.Errorf("no line: %s", p)
			}
		}
		expect(t, path, ".problems", got)
	})
}

// TestGood holds each valid file against the values that it must give, and the
// warnings.
func TestGood(t *testing.T) {
	each(t, "good", 10, func(t *testing.T, path string, text []byte) {
		config, problems := Parse(filepath.Base(path), text, testOptions(t))
		if config == nil || HasErrors(problems) {
			t.Fatalf("refused:\n%s", show(problems))
		}
		values, err := json.MarshalIndent(config, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		expect(t, path, ".json", string(values)+"\n")
		expect(t, path, ".problems", show(problems))
		for _, relay := range config.Relays {
			if relay.Username != "" && relay.Password.Reveal() != "from the environment" {
				t.Errorf("relay %s has another password than the environment", relay.Name)
			}
		}
	})
}
