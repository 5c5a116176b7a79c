package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/program"
)

const stranger = 65534

// bench has a program in order, bin/tell.
func bench(t *testing.T) string {
	t.Helper()
	at := t.TempDir()
	err := os.Chmod(at, 0o755)
	for _, directory := range []string{"bin", "other"} {
		path := filepath.Join(at, directory)
		err = errors.Join(err, os.Mkdir(path, 0o755), os.Chmod(path, 0o755))
	}
	path := at + "/bin/tell"
	if err := errors.Join(err, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755), os.Chmod(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	return at
}

// TestProgramsAgreeWithAlert holds our check, which has a remedy, to the one
// before each run. AT is the directory of each case.
func TestProgramsAgreeWithAlert(t *testing.T) {
	const runs, move = " runs as the user smtpwall, and ", "move it to /usr/local/bin"
	link := func(at string) error { return os.Symlink(at+"/bin/tell", at+"/other/link") }
	for name, c := range map[string]struct {
		change     func(at string) error
		path       string
		want, hint string
	}{
		"in order":                {func(string) error { return nil }, "bin/tell", "", ""},
		"file of a stranger":      {func(at string) error { return os.Chown(at+"/bin/tell", stranger, 0) }, "bin/tell", "AT/bin/tell" + runs + "belongs to uid 65534, who can change it", "chown root AT/bin/tell"},
		"file of a group":         {func(at string) error { return os.Chmod(at+"/bin/tell", 0o775) }, "bin/tell", "AT/bin/tell" + runs + "others than its owner can change it (mode 0775)", "chmod go-w AT/bin/tell"},
		"file of everybody":       {func(at string) error { return os.Chmod(at+"/bin/tell", 0o757) }, "bin/tell", "AT/bin/tell" + runs + "others than its owner can change it (mode 0757)", "chmod go-w AT/bin/tell"},
		"directory of a stranger": {func(at string) error { return os.Chown(at+"/bin", stranger, 0) }, "bin/tell", "the program" + runs + "uid 65534, whose directory AT/bin is, can replace it", move},
		"directory of a group":    {func(at string) error { return os.Chmod(at+"/bin", 0o775) }, "bin/tell", "the program" + runs + "others can replace it in the directory AT/bin (mode 0775)", "chmod go-w AT/bin, or " + move},
		"sticky directory":        {func(at string) error { return os.Chmod(at+"/bin", 0o777|os.ModeSticky) }, "bin/tell", "the program" + runs + "others can put one of theirs into the directory AT/bin", move},
		"sticky above":            {func(at string) error { return os.Chmod(at, 0o777|os.ModeSticky) }, "bin/tell", "", ""},
		"sticky above a stranger's": {func(at string) error {
			return errors.Join(os.Chmod(at, 0o777|os.ModeSticky), os.Chown(at+"/bin", stranger, 0))
		}, "bin/tell", "the program" + runs + "others can put one of theirs into the directory AT", move},
		"open above":                 {func(at string) error { return os.Chmod(at, 0o777) }, "bin/tell", "the program" + runs + "others can replace it in the directory AT (mode 0777)", "chmod go-w AT, or " + move},
		"link":                       {link, "other/link", "", ""},
		"link in a sticky directory": {func(at string) error { return errors.Join(link(at), os.Chmod(at+"/other", 0o777|os.ModeSticky)) }, "other/link", "the program" + runs + "others can put one of theirs into the directory AT/other", move},
		"link to a stranger's":       {func(at string) error { return errors.Join(link(at), os.Chown(at+"/bin", stranger, 0)) }, "other/link", "the program" + runs + "uid 65534, whose directory AT/bin is, can replace it", move},
		"link up and down":           {func(at string) error { return os.Symlink("../other/../bin", at+"/other/link") }, "other/link/tell", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			at := bench(t)
			if err := c.change(at); err != nil {
				t.Fatal(err)
			}
			path := at + "/" + c.path
			var want error
			if c.want != "" {
				want = flaw{strings.ReplaceAll(c.want, "AT", at), strings.ReplaceAll(c.hint, "AT", at)}
			}
			if got := (keepers{0, uint32(os.Geteuid())}).look(path); got != want {
				t.Errorf("got %#v\nwant %#v", got, want)
			}
			if theirs := program.Check(path); (theirs == nil) != (want == nil) {
				t.Errorf("alert says %v", theirs)
			}
		})
	}
}

func TestProgramThatIsNone(t *testing.T) {
	at := bench(t)
	if err := errors.Join(os.Symlink("loop", at+"/loop"), os.WriteFile(at+"/text", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{"none": fs.ErrNotExist, "bin": fs.ErrNotExist, "text": fs.ErrNotExist, "loop": syscall.ELOOP, "bin/tell/tell": syscall.ENOTDIR} {
		if got := (keepers{0}).look(at + "/" + path); !errors.Is(got, want) {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
}

// TestProgramIsTheProxysMatter: who reads no secrets runs no program.
func TestProgramIsTheProxysMatter(t *testing.T) {
	text := []byte("[[alert]]\nexec = [\"/tmp/alert\"]\n")
	options := testOptions(t)
	if config, _ := Parse("f.toml", text, options); config != nil {
		t.Error("the proxy takes it")
	}
	options.SkipSecrets = true
	if config, problems := Parse("f.toml", text, options); config == nil || len(problems) > 0 {
		t.Errorf("the guard is stopped by it: %s", show(problems))
	}
}

func TestIsShared(t *testing.T) {
	at := bench(t)
	if err := errors.Join(os.Chmod(at+"/bin", 0o777|os.ModeSticky), os.Mkdir(at+"/bin/own", 0o755), os.Chmod(at+"/bin/own", 0o755),
		os.Chmod(at+"/other", 0o777), os.Mkdir(at+"/other/own", 0o755), os.Symlink("bin", at+"/link"), os.Chmod(at, 0o775)); err != nil {
		t.Fatal(err)
	}
	for directory, want := range map[string]bool{
		"": false, "none": false, "bin": true, "bin/own": false, "bin/none": true, "other/own": true, "link": true, "link/own": false,
	} {
		if got := isShared(filepath.Join(at, directory)); got != want {
			t.Errorf("%q: got %t, want %t", directory, got, want)
		}
	}
}
