package durable

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// ReadSmall reads a file that somebody else may have put there: no pipe and no
// device, for which one might wait for ever, and not more than most octets. flags,
// such as O_NOFOLLOW, are for open(2).
func ReadSmall(path string, most int64, flags int) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	content, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%s is larger than %d octets", path, most)
	}
	if err != nil {
		return nil, err
	}
	return content, nil
}
