package durable

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReadSmall(t *testing.T) {
	at := func(name string) string { return filepath.Join(t.TempDir(), name) }
	file, long, pipe, link := at("file"), at("long"), at("pipe"), at("link")
	for _, err := range []error{
		os.WriteFile(file, []byte("0123456789"), 0o600), os.WriteFile(long, []byte("0123456789x"), 0o600),
		syscall.Mkfifo(pipe, 0o600), os.Symlink(file, link),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		path  string
		flags int
		want  string // part of the error; "" none
	}{
		{file, 0, ""}, {link, 0, ""}, {file, syscall.O_NOFOLLOW, ""},
		{link, syscall.O_NOFOLLOW, "too many levels of symbolic links"},
		{long, 0, "is larger than 10 octets"},
		{pipe, 0, "is not a regular file"}, {"/dev/zero", 0, "is not a regular file"}, {filepath.Dir(file), 0, "is not a regular file"},
		{at("none"), 0, "no such file"},
	} {
		content, err := ReadSmall(c.path, 10, c.flags)
		if c.want == "" && (err != nil || string(content) != "0123456789") {
			t.Errorf("%s: %q, %v", c.path, content, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.path, err, c.want)
		}
	}
}
