package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// loadOptions keeps Load from asking this host for its users.
var loadOptions = Options{Machine: &Machine{}}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "smtpwall.toml")
	if err := os.WriteFile(path, []byte("\ufeffmode = \"enforce\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config, problems := Load(path, loadOptions)
	if len(problems) > 0 || config.Mode != Enforce {
		t.Errorf("got %+v, %s", config, show(problems))
	}
}

func TestLoadAsksTheHostForUsers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "smtpwall.toml")
	text := "[[policy.rule]]\nname = \"a\"\nmatch = { user = [\"root\", \"no-such-user\"], group = [\"root\", \"no-such-group\"] }\ndecision = \"allow\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, problems := Load(path, Options{})
	if len(problems) != 2 || !strings.Contains(problems[0].Message, "no-such-user") || !strings.Contains(problems[1].Message, "no-such-group") {
		t.Errorf("got %s", show(problems))
	}
}

func TestLoadMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "smtpwall.toml")
	config, problems := Load(path, loadOptions)
	if config != nil || len(problems) != 1 || problems[0].String() != path+": cannot be read: no such file or directory" || problems[0].Hint == "" {
		t.Errorf("got %+v, %s", config, show(problems))
	}

	missingOK := loadOptions
	missingOK.MissingOK = true
	config, problems = Load(path, missingOK)
	if len(problems) > 0 || !reflect.DeepEqual(config, Default()) {
		t.Errorf("got %+v, %s", config, show(problems))
	}
}

func TestLoadDirectory(t *testing.T) {
	missingOK := loadOptions
	missingOK.MissingOK = true
	config, problems := Load(t.TempDir(), missingOK)
	if config != nil || !HasErrors(problems) {
		t.Error("a directory was accepted")
	}
}

func TestLoadTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "smtpwall.toml")
	if err := os.WriteFile(path, []byte(strings.Repeat("#\n", maxFile/2)+"#"), 0o600); err != nil {
		t.Fatal(err)
	}
	config, problems := Load(path, loadOptions)
	if config != nil || len(problems) != 1 || problems[0].Message != "is larger than 1MiB" {
		t.Errorf("got %s", show(problems))
	}
}

func TestProblemString(t *testing.T) {
	for _, c := range []struct {
		problem Problem
		want    string
	}{
		{Problem{File: "f.toml", Line: 3, Key: "relay.main.tls", Message: "is wrong", Hint: "do right"}, "f.toml:3: relay.main.tls: is wrong"},
		{Problem{File: "f.toml", Message: "is wrong"}, "f.toml: is wrong"},
		{Problem{File: "f.toml", Line: 3, Message: "is wrong"}, "f.toml:3: is wrong"},
	} {
		if got := c.problem.String(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

// TestDefaultIsFresh makes sure that nobody can change another's defaults.
func TestDefaultIsFresh(t *testing.T) {
	Default().Listen.Submission[0] = Default().Listen.Submission[1]
	if a, b := Default(), Default(); !reflect.DeepEqual(a, b) || a.Listen.Submission[0] == a.Listen.Submission[1] {
		t.Error("Default shares memory")
	}
}

// TestModeOption checks the file for the mode that it will be used in.
func TestModeOption(t *testing.T) {
	text := []byte("mode = \"observe\"\n[listen]\nsubmission = [\"127.0.0.1:587\"]\n")
	if config, problems := Parse("f.toml", text, Options{}); config == nil || config.Mode != Observe {
		t.Errorf("observe: %s", show(problems))
	}
	config, problems := Parse("f.toml", text, Options{Mode: Enforce})
	if config != nil || len(problems) != 1 || problems[0].Line != 3 {
		t.Errorf("enforce: %s", show(problems))
	}
	if config, _ := Parse("f.toml", nil, Options{Mode: Enforce}); config == nil || config.Mode != Enforce {
		t.Error("the mode was not taken")
	}
}
