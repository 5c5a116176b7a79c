package trail

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links a path may lead through: as many as
// Linux follows.
const maxLinks = 40

// Follow calls look with each entry on the way along an absolute path, and the
// directory that holds it, symbolic links and where they lead included. It gives
// where the path ends, without a link. It fails with the error of look, with
// fs.ErrNotExist where there is nothing, and with syscall.ELOOP after 40 links.
func Follow(path string, look func(directory string, entry fs.FileInfo) error) (end string, err error) {
	directory, names := "/", strings.Split(path, "/")
	for links := 0; len(names) > 0; {
		name := names[0]
		names = names[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			directory = filepath.Dir(directory) // it holds no link
			continue
		}
		next := filepath.Join(directory, name)
		entry, err := os.Lstat(next)
		if err != nil {
			return "", err
		}
		if err := look(directory, entry); err != nil {
			return "", err
		}
		if entry.Mode().Type() != fs.ModeSymlink {
			directory = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "lstat", Path: path, Err: syscall.ELOOP}
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(target) {
			directory = "/"
		}
		names = slices.Concat(strings.Split(target, "/"), names)
	}
	return directory, nil
}
