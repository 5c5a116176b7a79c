package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// fileMode lets the log's group (adm, by tmpfiles.d) read and nobody else.
const fileMode = 0o640

// openFile opens path for appending and tells whether it ends within a line.
//
// O_NOFOLLOW and the checks on the open file are there because the guard writes
// as root into a directory that belongs to the proxy's user: a link planted
// there must not make root append to another file.
func openFile(path string) (file *os.File, torn bool, err error) {
	const flags = os.O_RDWR | os.O_APPEND | unix.O_NOFOLLOW | unix.O_NONBLOCK
	file, err = os.OpenFile(path, flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		file, err = createFile(path, flags)
	}
	if err != nil {
		return nil, false, err
	}
	size, err := checkFile(file)
	if err == nil {
		torn, err = endsTorn(file, size)
	}
	if err != nil {
		file.Close()
		return nil, false, err
	}
	return file, torn, nil
}

// createFile makes the file with fileMode, whatever the umask.
func createFile(path string, flags int) (*os.File, error) {
	file, err := os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, fileMode)
	if errors.Is(err, fs.ErrExist) { // logrotate was quicker
		return os.OpenFile(path, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := file.Chmod(fileMode); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// checkFile returns the size of a file that is safe to append to.
func checkFile(file *os.File) (size int64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return 0, fmt.Errorf("examining %s: %w", file.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, fmt.Errorf("%s is not a regular file", file.Name())
	}
	if st.Nlink > 1 {
		return 0, fmt.Errorf("%s has another hard link", file.Name())
	}
	return st.Size, nil
}

// endsTorn tells whether a crash left the last line without its end.
func endsTorn(file *os.File, size int64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	var last [1]byte
	if _, err := file.ReadAt(last[:], size-1); err != nil {
		return false, fmt.Errorf("reading the end of %s: %w", file.Name(), err)
	}
	return last[0] != '\n', nil
}

// removeTornLine takes back what a failed write left at the end of the file,
// and reports whether the file now ends with a whole line.
func removeTornLine(file *os.File) bool {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return false
	}
	torn, err := endsTorn(file, size)
	if err != nil || !torn {
		return err == nil
	}
	start, err := lineStart(file, size)
	return err == nil && file.Truncate(start) == nil
}

// lineStart is the offset after the last line feed before end. It looks back no
// further than one event can be long.
func lineStart(file *os.File, end int64) (int64, error) {
	from := max(0, end-maxLine)
	tail := make([]byte, end-from)
	if _, err := file.ReadAt(tail, from); err != nil {
		return 0, err
	}
	for i := len(tail) - 1; i >= 0; i-- {
		if tail[i] == '\n' {
			return from + int64(i) + 1, nil
		}
	}
	if from > 0 {
		return 0, errors.New("no line feed found")
	}
	return 0, nil
}

// isAt tells whether path still names the open file.
func isAt(file *os.File, path string) bool {
	at, err := os.Lstat(path)
	if err != nil {
		return false
	}
	open, err := file.Stat()
	return err == nil && os.SameFile(at, open)
}
