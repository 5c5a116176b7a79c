package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// StateDir is where the guard of a packaged service keeps its state.
const StateDir = "/var/lib/smtpwall-guard"

// maxState bounds what is read of a state file.
const maxState = 1 << 20

func (g *Guard) stateDir() string { return g.options().State }

// writeState makes a file of the state directory durable. Without a directory
// nothing outlives the process.
func (g *Guard) writeState(name string, value any) error {
	dir := g.stateDir()
	if dir == "" {
		return nil
	}
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(g.disk, dir, 0o700); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	if err := checkOwn(dir, unix.S_IFDIR); err != nil {
		return err
	}
	return durable.WriteFile(g.disk, filepath.Join(dir, name), append(data, '\n'), 0o600)
}

// sweepState removes what a crash in the middle of a write has left.
func (g *Guard) sweepState() error {
	dir := g.stateDir()
	if dir == "" || checkOwn(dir, unix.S_IFDIR) != nil {
		return nil // nothing was written there
	}
	return durable.Sweep(g.disk, dir)
}

func (g *Guard) removeState(name string) error {
	dir := g.stateDir()
	if dir == "" {
		return nil
	}
	err := g.disk.Remove(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return g.disk.SyncDir(dir)
}

// readState returns nil if there is no such file. What anybody else could have
// put there is not read.
func (g *Guard) readState(name string) ([]byte, error) {
	dir := g.stateDir()
	if dir == "" {
		return nil, nil
	}
	path := filepath.Join(dir, name)
	err := checkOwn(dir, unix.S_IFDIR)
	if err == nil {
		err = checkOwn(path, unix.S_IFREG)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err == nil && len(data) > maxState {
		err = fmt.Errorf("%s is too long", path)
	}
	return data, err
}

// checkOwn fails for what is of another kind, or what others than this user may
// change. In a directory that passes, nobody else can put anything in the place
// of a file that was looked at.
func checkOwn(path string, kind uint32) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &fs.PathError{Op: "looking at", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != kind {
		return fmt.Errorf("%s is of the wrong kind", path)
	}
	if st.Uid != uint32(os.Geteuid()) || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s could have been changed by others", path)
	}
	return nil
}
