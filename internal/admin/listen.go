package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

// mode of the socket: its owner and its group may connect.
const mode = 0o660

// Listen makes the socket at path, in place of one that a dead process left,
// with gid as its group; a negative gid leaves the group as it is. The packaged
// service does not need it: there systemd makes the socket.
func Listen(path string, gid int) (*net.UnixListener, error) {
	if err := RemoveStale(path); err != nil {
		return nil, fmt.Errorf("opening the admin socket: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("opening the admin socket: %w", err)
	}
	// Whoever connects in between is asked for its credentials all the same.
	if err := errors.Join(os.Chmod(path, mode), os.Lchown(path, -1, gid)); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the admin socket: %w", err), ln.Close())
	}
	return ln, nil
}

// RemoveStale removes the Unix socket at path if nobody answers on it. It is an
// error if somebody does, or if it is something else.
func RemoveStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return fmt.Errorf("another process listens on %s", path)
	}
	return os.Remove(path)
}
