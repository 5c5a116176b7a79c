package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tmpSuffix marks the temporary files of WriteFile.
const tmpSuffix = ".tmp"

// WriteFile makes name a file of exactly this content and permission (whatever
// the umask), atomically. When it returns nil, the file survives power loss.
// After an error the file is the old one or, only where the last step, the sync
// of the directory, has failed, perhaps the new one; it is never a part of
// either. A crash may leave a temporary file beside it, see Sweep.
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) error {
	tmp := temporary(name)
	if err := writeSynced(fsys, tmp, data, perm); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", name, err), discard(fsys, tmp))
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", name, err), discard(fsys, tmp))
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("writing %s: syncing its directory: %w", name, err)
	}
	return nil
}

// temporary is a name beside name that nobody else uses. The dot keeps it from
// programs that read all files of a directory.
func temporary(name string) string {
	dir, base := filepath.Split(name)
	return filepath.Join(dir, "."+base+"."+rand.Text()[:10]+tmpSuffix)
}

// writeSynced writes a new file; its content is durable, its name is not.
func writeSynced(fsys FS, name string, data []byte, perm fs.FileMode) error {
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	if err := fill(f, data, perm); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func fill(f File, data []byte, perm fs.FileMode) error {
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// discard removes a temporary file that may not be there.
func discard(fsys FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a temporary file: %w", err)
	}
	return nil
}

// Sweep removes what a crash during WriteFile has left in dir. Nobody may be
// writing there.
func Sweep(fsys FS, dir string) error {
	d, err := fsys.OpenFile(dir, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("sweeping %s: %w", dir, err)
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return fmt.Errorf("sweeping %s: %w", dir, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && strings.HasSuffix(e.Name(), tmpSuffix) && e.Type().IsRegular() {
			if err := discard(fsys, filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// MkdirAll makes dir and what is missing above it, and syncs the directory
// above each. It syncs the one above dir also where dir is there already, since
// whoever made it may have crashed before that.
func MkdirAll(fsys FS, dir string, perm fs.FileMode) error {
	dir = filepath.Clean(dir)
	err := fsys.Mkdir(dir, perm)
	if errors.Is(err, fs.ErrNotExist) {
		if err := MkdirAll(fsys, filepath.Dir(dir), perm); err != nil {
			return err
		}
		err = fsys.Mkdir(dir, perm)
	}
	exists := errors.Is(err, fs.ErrExist)
	if err != nil && !exists {
		return fmt.Errorf("making a directory: %w", err)
	}
	err = fsys.SyncDir(filepath.Dir(dir))
	if exists && errors.Is(err, fs.ErrPermission) {
		return nil // somebody with more rights made it for us
	}
	if err != nil {
		return fmt.Errorf("syncing the directory of %s: %w", dir, err)
	}
	return nil
}
