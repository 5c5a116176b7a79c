package program

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const stranger = 65534

// TestCheck changes one thing about a program that is in order.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		change func(at string) error // at is the directory that holds bin/tell
		path   string
		want   string // part of the error; "" none
	}{
		"in order":  {func(string) error { return nil }, "bin/tell", ""},
		"read only": {func(at string) error { return os.Chmod(at+"/bin/tell", 0o555) }, "bin/tell", ""},

		"file of a stranger":      {func(at string) error { return os.Chown(at+"/bin/tell", stranger, 0) }, "bin/tell", "/bin/tell belongs to uid 65534"},
		"file of a group":         {func(at string) error { return os.Chmod(at+"/bin/tell", 0o775) }, "bin/tell", "/bin/tell can be changed by others than its owner (mode 0775)"},
		"file of everybody":       {func(at string) error { return os.Chmod(at+"/bin/tell", 0o757) }, "bin/tell", "(mode 0757)"},
		"directory of a stranger": {func(at string) error { return os.Chown(at+"/bin", stranger, 0) }, "bin/tell", "its directory "},
		"directory of a group":    {func(at string) error { return os.Chmod(at+"/bin", 0o770) }, "bin/tell", "/bin (mode 0770)"},
		"sticky directory":        {func(at string) error { return os.Chmod(at+"/bin", 0o777|os.ModeSticky) }, "bin/tell", "/bin (mode 0777)"},

		"sticky above":     {func(at string) error { return os.Chmod(at, 0o777|os.ModeSticky) }, "bin/tell", ""},
		"open above":       {func(at string) error { return os.Chmod(at, 0o777) }, "bin/tell", "(mode 0777)"},
		"stranger's above": {func(at string) error { return os.Chown(at, stranger, 0) }, "bin/tell", "belongs to uid 65534"},

		"link":                       {func(at string) error { return os.Symlink("bin/tell", at+"/link") }, "link", ""},
		"link and back":              {func(at string) error { return os.Symlink("../x/../bin", at+"/other/link") }, "other/link/tell", ""},
		"absolute link":              {func(at string) error { return os.Symlink(at+"/bin/tell", at+"/other/link") }, "other/link", ""},
		"link in a sticky directory": {func(at string) error { return linkIn(at, 0o777|os.ModeSticky) }, "other/link", "/other (mode 0777)"},
		"link in an open directory":  {func(at string) error { return linkIn(at, 0o777) }, "other/link", "/other (mode 0777)"},
		"link to another's":          {func(at string) error { return errors.Join(linkIn(at, 0o755), os.Chown(at+"/bin", stranger, 0)) }, "other/link", "/bin belongs to uid 65534"},
		"link to itself":             {func(at string) error { return os.Symlink("link", at+"/link") }, "link", syscall.ELOOP.Error()},
		"link through a stranger's": {func(at string) error {
			return errors.Join(os.Symlink("../x/../bin", at+"/other/link"), os.Chown(at+"/x", stranger, 0), os.Chmod(at, 0o777|os.ModeSticky))
		}, "other/link/tell", "(mode 0777)"},
		"nothing there":              {func(at string) error { return os.Remove(at + "/bin/tell") }, "bin/tell", syscall.ENOENT.Error()},
		"nothing, in a shared place": {func(at string) error { return os.Chmod(at+"/bin", 0o777) }, "bin/none", syscall.ENOENT.Error()},
		"a file on the way":          {func(string) error { return nil }, "bin/tell/tell", syscall.ENOTDIR.Error()},
		"a link to nothing":          {func(at string) error { return os.Symlink("none", at+"/link") }, "link", syscall.ENOENT.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			at := t.TempDir()
			err := os.Chmod(at, 0o755)
			for _, directory := range []string{"bin", "other", "x"} {
				path := filepath.Join(at, directory)
				err = errors.Join(err, os.Mkdir(path, 0o755), os.Chmod(path, 0o755))
			}
			if err = errors.Join(err, os.WriteFile(at+"/bin/tell", nil, 0o755), os.Chmod(at+"/bin/tell", 0o755), c.change(at)); err != nil {
				t.Fatal(err)
			}
			err = Check(at + "/" + c.path)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func linkIn(at string, mode os.FileMode) error {
	return errors.Join(os.Symlink(at+"/bin/tell", at+"/other/link"), os.Chmod(at+"/other", mode))
}
