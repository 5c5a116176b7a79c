package certs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// readKey reads the root's key, and refuses one that is not in the custody of this process alone: what others could
// have read or written may be known to them. Root reads everybody's.
func readKey(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if uid, ok := strangerOf(info); ok {
		return nil, fmt.Errorf("%s belongs to uid %d, and this process runs as uid %d; chown it", path, uid, os.Geteuid())
	}
	if err := closed(0o077, path, info); err != nil {
		return nil, err
	}
	return io.ReadAll(file)
}

// closedTo returns an error if the file gives a permission in mask.
func closedTo(mask fs.FileMode, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return closed(mask, path, info)
}

func closed(mask fs.FileMode, path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&mask != 0 {
		return fmt.Errorf("%s has mode %04o, so others may have read it; chmod %04o", path, mode, mode&^mask)
	}
	return nil
}

// closedDirectory returns an error if others than this process, and root, may replace what lies in the directory.
func closedDirectory(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if uid, ok := strangerOf(info); ok && uid != 0 {
		return fmt.Errorf("%s belongs to uid %d, who may replace the local CA's key in it; chown it", path, uid)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("%s has mode %04o, so others may replace the local CA's key in it; chmod %04o", path, mode, mode&^0o022)
	}
	return nil
}

// strangerOf returns the owner of a file if that is somebody else. To root nobody is: it runs commands over what belongs
// to the service's user.
func strangerOf(info fs.FileInfo) (uid int, ok bool) {
	owner, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, false
	}
	uid = int(owner.Uid)
	return uid, uid != os.Geteuid() && os.Geteuid() != 0
}
