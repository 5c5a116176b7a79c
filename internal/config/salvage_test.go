package config

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// salvage writes text to a file and salvages it.
func salvage(t *testing.T, text string) (*Config, []Problem) {
	path := filepath.Join(t.TempDir(), "smtpwall.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Salvage(path)
}

// TestSalvageMode never lets a broken file open a host that may have been closed, nor close one that only observes.
func TestSalvageMode(t *testing.T) {
	for text, want := range map[string]Mode{
		"":                                       Observe,
		"[log]\nlevel = \"info\"\n":              Observe,
		"colour = 1\n":                           Enforce,
		"moed = \"enforce\"\n":                   Enforce,
		"mode = \"observe\"\ncolour = 1\n":       Observe,
		"mode = \"observe\"\n[host\n":            Observe,
		"mode = \"enforce\"\ncolour = 1\n":       Enforce,
		"mode = \"enforce\"\n[host\n":            Enforce,
		"[host]\nname =\n":                       Enforce,
		"mode = enforce\n":                       Enforce,
		"mode = \"observ\"\n":                    Enforce,
		"mode = 1\n":                             Enforce,
		"moed = \"enforce\"\n[host\n":            Enforce,
		"mode = \"observe\"\nmode = \"enforce\"": Enforce,
		"\xff":                                   Enforce,
	} {
		if config, _ := salvage(t, text); config.Mode != want {
			t.Errorf("%q: got %s, want %s", text, config.Mode, want)
		}
	}
}

func TestSalvageKeepsWhatIsRight(t *testing.T) {
	config, problems := salvage(t, `
mode = "enforce"
[relay.good]
address = "smtp.example.com:587"
username = "u"
password = { credential = "not-read-here" }
[relay.bad]
address = "smtp.example.com:port"
[listen]
submission = ["127.0.0.1:1587", "[::1]:1587"]
[firewall]
submission_ports = "rejected"
`)
	if !HasErrors(problems) {
		t.Error("no errors")
	}
	if len(config.Relays) != 1 || config.Relays[0].Name != "good" || config.Relays[0].Host != "smtp.example.com" || config.Relays[0].Password.IsSet() {
		t.Errorf("got relays %+v", config.Relays)
	}
	if config.Listen.Redirects()[587] != 1587 || config.Firewall.SubmissionPorts != SubmissionRedirect {
		t.Errorf("got %+v", config)
	}
}

func TestSalvageUnreadable(t *testing.T) {
	config, problems := Salvage(t.TempDir())
	if config.Mode != Enforce || !HasErrors(problems) {
		t.Errorf("got %s, %s", config.Mode, show(problems))
	}
}

// TestSalvageAgrees gives what Load gives where nothing is wrong.
func TestSalvageAgrees(t *testing.T) {
	each(t, "good", 10, func(t *testing.T, path string, text []byte) {
		want, _ := Parse(path, text, Options{SkipSecrets: true})
		if got, _ := Salvage(path); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	})
}
