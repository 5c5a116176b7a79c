package fault_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// mountSpace is a mount namespace with a small file system, which only those
// who were started in it see.
type mountSpace struct{ work chan func() }

// newMountSpace mounts a tmpfs of so many octets at a directory, for those in
// the space that it returns.
func newMountSpace(t testing.TB, at string, octets int64) *mountSpace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a file system and needs root")
	}
	s := &mountSpace{work: make(chan func())}
	go func() { // ends with the test
		// The thread ends with the goroutine, and the namespace with the thread.
		runtime.LockOSThread()
		for do := range s.work {
			do()
		}
	}()
	t.Cleanup(func() { close(s.work) })
	var err error
	s.do(func() { err = mountTmpfs(at, octets) })
	if err != nil {
		t.Fatalf("mounting a small file system: %v", err)
	}
	return s
}

func mountTmpfs(at string, octets int64) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("tmpfs", at, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", octets))
}

// do runs something in the space; in none it runs it here.
func (s *mountSpace) do(what func()) {
	if s == nil {
		what()
		return
	}
	done := make(chan struct{})
	s.work <- func() { defer close(done); what() }
	<-done
}
