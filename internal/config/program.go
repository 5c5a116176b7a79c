package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/smtpwall/smtpwall/internal/trail"
)

// proxyUser is whom the service runs as, and alerts' programs with it.
const proxyUser = "smtpwall"

// checkProgram looks at a program that is run as the proxy's user. Who has no
// use for secrets does not run it either.
func (d *decoder) checkProgram(at place, path string) {
	look := d.options.machine().Program
	if look == nil || d.options.SkipSecrets {
		return
	}
	err := look(path)
	found, isFlaw := err.(flaw)
	switch {
	case err == nil:
	case isFlaw:
		d.wrong(at, found)
	case errors.Is(err, fs.ErrNotExist):
		d.doubt(at, flaw{fmt.Sprintf("there is no program %s", path), "put it there, and make it executable"})
	default:
		d.doubt(at, flaw{fmt.Sprintf("%s cannot be looked at: %v", path, bare(err)), ""})
	}
}

// keepers are the users who may be able to replace a program.
type keepers []uint32

// look says what is wrong with running a program: a flaw where somebody else
// can replace it, fs.ErrNotExist where it is none. internal/alert looks in the
// same way before each run.
func (k keepers) look(path string) error {
	end, err := trail.Follow(path, k.checkPlace)
	if err != nil {
		return err
	}
	return k.checkFile(end)
}

// checkPlace refuses a directory where others can put something else in the
// place of an entry. With the sticky bit they cannot rename what is not theirs:
// good enough for a directory on the way, not for the program itself, which may
// be away for a moment.
func (k keepers) checkPlace(directory string, entry fs.FileInfo) error {
	const hint = "move it to /usr/local/bin"
	info, err := os.Lstat(directory)
	if err != nil {
		return err
	}
	if owner := ownerOf(info); !slices.Contains(k, owner) {
		return flaw{fmt.Sprintf("the program runs as the user %s, and uid %d, whose directory %s is, can replace it", proxyUser, owner, directory), hint}
	}
	mode := info.Mode()
	switch safe := entry.IsDir() && slices.Contains(k, ownerOf(entry)); {
	case mode&0o022 == 0, mode&fs.ModeSticky != 0 && safe:
		return nil
	case mode&fs.ModeSticky != 0:
		return flaw{fmt.Sprintf("the program runs as the user %s, and others can put one of theirs into the directory %s", proxyUser, directory), hint}
	}
	return flaw{fmt.Sprintf("the program runs as the user %s, and others can replace it in the directory %s (mode %04o)", proxyUser, directory, mode.Perm()),
		"chmod go-w " + directory + ", or " + hint}
}

// checkFile refuses a program that others can write to.
func (k keepers) checkFile(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return fs.ErrNotExist
	}
	if owner := ownerOf(info); !slices.Contains(k, owner) {
		return flaw{fmt.Sprintf("%s runs as the user %s, and belongs to uid %d, who can change it", path, proxyUser, owner), "chown root " + path}
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return flaw{fmt.Sprintf("%s runs as the user %s, and others than its owner can change it (mode %04o)", path, proxyUser, mode), "chmod go-w " + path}
	}
	return nil
}

func ownerOf(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

// isShared reports whether everybody can put a file into a directory. Of one
// that is not there, whoever makes it decides.
func isShared(directory string) bool {
	if real, err := filepath.EvalSymlinks(directory); err == nil {
		directory = real
	}
	for inner := true; ; directory = filepath.Dir(directory) {
		info, err := os.Stat(directory)
		switch {
		case err != nil: // its own directory counts for it
		case info.Mode()&0o002 != 0 && (inner || info.Mode()&fs.ModeSticky == 0):
			return true
		default:
			inner = false
		}
		if directory == "/" {
			return false
		}
	}
}
