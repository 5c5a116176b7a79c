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

// TestSalvageTellsAGuessedMode says of a mode whether the file has it.
func TestSalvageTellsAGuessedMode(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                       false,
		"colour = 1\n":                           false,
		"mode = \"observe\"\ncolour = 1\n":       true,
		"mode = \"enforce\"\ncolour = 1\n":       true,
		"mode = \"enforce\"\n[host\n":            true,
		"mode = \"observ\"\n":                    false,
		"mode = enforce\n":                       false,
		"mode = \"observe\"\nmode = \"enforce\"": false,
		"mode = \"enforce\"\nmode = \"enforce\"": false,
		"[host]\nmode = \"enforce\"\n":           false,
	} {
		if config, _ := salvage(t, text); config.ModeStated != want {
			t.Errorf("%q: stated %v, want %v (%s)", text, config.ModeStated, want, config.Mode)
		}
	}
	if config, _ := Salvage(t.TempDir()); config.ModeStated {
		t.Error("a file that cannot be read states a mode")
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

// TestSalvageLetsThroughOnlyWhatIsRight leaves out whatever a slip may have
// widened.
func TestSalvageLetsThroughOnlyWhatIsRight(t *testing.T) {
	const sound = "[[firewall.allow]]\nuser = \"root\"\ndestination = \"192.0.2.1:25\"\n"
	for text, want := range map[string]int{
		sound: 1,
		sound + "[[firewall.allow]]\nuid = 33\ndestination = \"192.0.2.2:25\"\nuntil = 2027-01-31T00:00:00Z\n": 2,
		sound + "[[firewall.allow]]\nuid = 33\ndestination = \"192.0.2.2:25\"\nuntil = \"soon\"\n":             1,
		sound + "[[firewall.allow]]\nuid = 33\ndestination = \"192.0.2.2:25\"\nutnil = 2027-01-31T00:00:00Z\n": 1,
		sound + "[[firewall.allow]]\nuid = 33\ndestination = \"192.0.2.2:26\"\n":                               1,
		sound + "[[firewall.allow]]\nuid = 33\n":                                                               1,
		sound + "[[firewall.allow]]\ndestination = \"192.0.2.2:25\"\n":                                         1,
		sound + "[[firewall.allow]]\nuid = 33\nuser = \"x\"\ndestination = \"192.0.2.2:25\"\n":                 1,
		sound + "user = \"nobody\"\n":                0,
		sound + sound:                                1,
		sound + "until = 2027-01-31T00:00:00\n":      0,
		sound + "until = soon\n":                     0, // a syntax error
		"[[firewall.allow]]\nuser = \"x\"\n" + sound: 1,
		"[firewall]\nallow = [{ uid = 33, destination = \"192.0.2.2:25\", until = 1 }, { uid = 34, destination = \"192.0.2.2:25\" }]\n":       0, // on one line
		"[firewall]\nallow = [\n{ uid = 33, destination = \"192.0.2.2:25\", until = 1 },\n{ uid = 34, destination = \"192.0.2.2:25\" },\n]\n": 1,
		"mode = 1\n" + sound: 1,
	} {
		config, problems := salvage(t, text)
		if got := len(config.Firewall.Allow); got != want {
			t.Errorf("%s: %d entries count, want %d:\n%s", text, got, want, show(problems))
		}
	}
}
