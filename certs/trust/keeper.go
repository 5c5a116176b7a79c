package trust

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/smtpwall/smtpwall/internal/trail"
)

// keptByRoot returns an error unless only root can change the file at path or put another in its place: what we do as
// root there would be what somebody else wishes. end is the file with all links followed.
func keptByRoot(path string) (end string, err error) {
	end, err = trail.Follow(path, func(directory string, entry fs.FileInfo) error {
		info, err := os.Lstat(directory)
		if err != nil {
			return err
		}
		return rootsAlone(directory, info)
	})
	if err != nil {
		return "", err
	}
	info, err := os.Lstat(end)
	if err != nil {
		return "", err
	}
	return end, rootsAlone(end, info)
}

// rootsAlone looks at one file or directory. Where we are not root, what is ours is as good.
func rootsAlone(path string, info fs.FileInfo) error {
	status, ok := info.Sys().(*syscall.Stat_t)
	if !ok || status.Uid != 0 && int(status.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to uid %d", path, status.Uid)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others than root can write to %s (mode %04o)", path, info.Mode().Perm())
	}
	return nil
}
