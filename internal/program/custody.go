package program

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/smtpwall/smtpwall/internal/trail"
)

// Check refuses a program that others than root and the user of this
// process can replace: it would run as that user, who reaches the relays and
// owns the spool. It looks at the file and, links followed, at each directory on
// the way there. internal/config says the same with a remedy, when the file is
// read; it may be run months later.
func Check(path string) error {
	end, err := trail.Follow(path, checkPlace)
	if err != nil {
		return err
	}
	return checkFile(end)
}

// checkPlace refuses a directory where others could put something else in the
// place of an entry. In one with the sticky bit they cannot rename what is not
// theirs, so that a directory of ours is safe there; what is nearer to the
// program wants a place of its own.
func checkPlace(directory string, entry fs.FileInfo) error {
	info, err := os.Lstat(directory)
	if err != nil {
		return err
	}
	if owner, ours := ownerOf(info); !ours {
		return fmt.Errorf("its directory %s belongs to uid %d", directory, owner)
	}
	_, ours := ownerOf(entry)
	safe := info.Mode()&fs.ModeSticky != 0 && entry.IsDir() && ours
	if info.Mode()&0o022 != 0 && !safe {
		return fmt.Errorf("others can replace files in its directory %s (mode %04o)", directory, info.Mode().Perm())
	}
	return nil
}

// checkFile refuses a program that others can write to.
func checkFile(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if owner, ours := ownerOf(info); !ours {
		return fmt.Errorf("%s belongs to uid %d", path, owner)
	}
	if info.Mode()&0o022 != 0 {
		return fmt.Errorf("%s can be changed by others than its owner (mode %04o)", path, info.Mode().Perm())
	}
	return nil
}

// ownerOf also reports whether that is root or the user of this process.
func ownerOf(info fs.FileInfo) (owner uint32, ours bool) {
	owner = info.Sys().(*syscall.Stat_t).Uid
	return owner, owner == 0 || int64(owner) == int64(os.Geteuid())
}
