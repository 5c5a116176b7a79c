package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// inside calls f with another root directory, so that every link in an image leads to where it leads in the container,
// and the image's own commands run there. It does so on a thread of its own. What f starts inherits the root,
// except for goroutines.
func inside(root string, f func() error) error {
	if root == "" {
		return f()
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return fmt.Errorf("finding the root directory: %w", err)
	}
	if root == "/" {
		return f()
	}
	return onOwnThread(func() error {
		if err := enter(root); err != nil {
			return err
		}
		return f()
	})
}

// onOwnThread calls f on a thread that ends with it.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() { // awaited here
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread stands for the process in /proc, and outlives f. While it is held, f gets another.
			defer runtime.UnlockOSThread()
			done <- onOwnThread(f)
			return
		}
		done <- f() // never unlocked: the thread ends with the goroutine
	}()
	return <-done
}

// enter makes root the root directory of this thread alone.
func enter(root string) error {
	err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
	if err == nil {
		err = lendMounts(root)
	}
	if errors.Is(err, unix.EPERM) { // in a container we may not mount; most images need none of it
		err = unix.Unshare(unix.CLONE_FS)
	}
	if err == nil {
		err = unix.Chroot(root)
	}
	if err == nil {
		err = os.Chdir("/")
	}
	if err != nil {
		return fmt.Errorf("making %s the root directory: %w", root, err)
	}
	return nil
}

// lendMounts gives an image what it has only while its container runs: without /dev/null scripts would leave a file of
// that name in it, and Java does not start without /proc. It ends with the thread's mount namespace.
func lendMounts(root string) error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	for directory, sign := range map[string]string{"/dev": "null", "/proc": "self"} {
		target := filepath.Join(root, directory)
		info, err := os.Lstat(target)
		if err != nil || !info.IsDir() {
			continue
		}
		if _, err = os.Lstat(filepath.Join(target, sign)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := unix.Mount(directory, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	return nil
}
