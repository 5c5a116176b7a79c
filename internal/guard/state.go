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

// maxState bounds what is read of a state file: a list of the suspended is as long
// as a request.
const maxState = maxRequest

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
	err := checkOwn(dir, unix.S_IFDIR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data, trust, err := readFile(filepath.Join(dir, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case trust < trustAll:
		return nil, err
	}
	return data, nil
}

// readMode returns the mode file, and how far it is to be believed. It returns nil
// and trustAll if there is none. The error says what is amiss.
func (g *Guard) readMode() ([]byte, trust, error) {
	dir := g.stateDir()
	if dir == "" {
		return nil, trustAll, nil
	}
	ofDir, amiss := look(dir, unix.S_IFDIR)
	data, ofFile, err := readFile(filepath.Join(dir, modeFile))
	switch {
	case errors.Is(amiss, fs.ErrNotExist):
		return nil, trustAll, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return nil, trustAll, amiss
	case ofDir < ofFile:
		return data, ofDir, amiss
	}
	return data, ofFile, err
}

// closeState makes the state directory root's alone again.
func (g *Guard) closeState() error {
	dir := g.stateDir()
	if dir == "" {
		return nil
	}
	t, err := look(dir, unix.S_IFDIR)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case t == trustNothing:
		return err
	case t == trustAll:
		return nil
	}
	if err := errors.Join(os.Lchown(dir, os.Geteuid(), -1), os.Chmod(dir, 0o700)); err != nil {
		return fmt.Errorf("making the state directory root's alone again: %w", err)
	}
	return nil
}

// trust is how far what stands in a file is to be believed.
type trust uint8

const (
	trustNothing trust = iota // it is damaged, or no file
	trustEnforce              // another user's: to block is the safe side
	trustTrial                // root's, but others could have written: that a trial was to end, too
	trustAll                  // root's alone
)

// readFile reads a state file, if it is one, and looks at who could have written
// it. An error comes with all but trustAll.
func readFile(path string) ([]byte, trust, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, trustNothing, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, trustNothing, &fs.PathError{Op: "looking at", Path: path, Err: err}
	}
	t, amiss := judge(path, st, unix.S_IFREG)
	if t == trustNothing {
		return nil, t, amiss
	}
	data, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err == nil && len(data) > maxState {
		err = fmt.Errorf("%s is too long", path)
	}
	if err != nil {
		return nil, trustNothing, err
	}
	return data, t, amiss
}

func look(path string, kind uint32) (trust, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return trustNothing, &fs.PathError{Op: "looking at", Path: path, Err: err}
	}
	return judge(path, st, kind)
}

func judge(path string, st unix.Stat_t, kind uint32) (trust, error) {
	switch {
	case st.Mode&unix.S_IFMT != kind:
		return trustNothing, fmt.Errorf("%s is of the wrong kind", path)
	case st.Uid != uint32(os.Geteuid()):
		return trustEnforce, fmt.Errorf("%s could have been changed by others: it is uid %d's", path, st.Uid)
	case st.Mode&0o022 != 0:
		return trustTrial, fmt.Errorf("%s could have been changed by others: its mode is %04o", path, st.Mode&0o7777)
	}
	return trustAll, nil
}

// checkOwn fails for what is of another kind, or what others than this user may
// change. In a directory that passes, nobody else can put anything in the place
// of a file that was looked at.
func checkOwn(path string, kind uint32) error {
	_, err := look(path, kind)
	return err
}
