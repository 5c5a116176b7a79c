package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// ownMounts is set in the environment of the process whose mounts are its own.
const ownMounts = "SMTPWALL_BENCH_OWN_MOUNTS"

// withOwnMounts runs this program again in a mount namespace of its own: what it
// mounts nobody else sees, and it goes when the program does.
func withOwnMounts() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt) // the other one ends by it, and we by that
	command := exec.Command(self, os.Args[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(), ownMounts+"=1")
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	err = command.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(max(1, exit.ExitCode())) // it has said why
	}
	return err
}

const diskSize = 4 << 30

// mountDisk gives the peers of this scenario an ext4 of their own, made as
// distributions make it, in an image below the scenario's directory. What files
// cost then depends neither on how old and full the file system there is, nor on
// what was deleted from it before: without a journal, ext4 avoids the inodes that
// were deleted within minutes, one by one, and makes new files ever more slowly.
func (b *bench) mountDisk(ctx context.Context) error {
	if os.Getenv(ownMounts) == "" {
		return errors.New("mounting the image needs root; -image=false takes the directory as it is")
	}
	image, at := filepath.Join(b.dir, "disk.img"), filepath.Join(b.dir, "disk")
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	file, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(syscall.Fallocate(int(file.Fd()), 0, 0, diskSize), file.Close()); err != nil {
		return fmt.Errorf("making room for the image: %w", err)
	}
	for _, args := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image},
		{"mount", "-o", "loop", image, at},
	} {
		program, err := exec.LookPath(args[0])
		if err != nil {
			program = filepath.Join("/usr/sbin", args[0])
		}
		if _, err := output(exec.CommandContext(ctx, program, args[1:]...)); err != nil {
			return fmt.Errorf("%w (-image=false takes the directory as it is)", err)
		}
	}
	b.mounted, b.peers = true, at
	return os.Chmod(at, 0o755)
}

// unmount takes the image away. Some of Postfix's processes end a little later
// than their master.
func (b *bench) unmount() error {
	const patience = 10 * time.Second
	for begin := time.Now(); b.mounted; {
		err := syscall.Unmount(b.peers, 0)
		if err != nil && time.Since(begin) > patience {
			return fmt.Errorf("unmounting the image: %w", err)
		}
		if b.mounted = err != nil; b.mounted {
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}
