package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// durable makes sure that both spools are on a file system where syncing means
// something, and says what a sync costs there.
func (b *bench) durable(ctx context.Context) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(b.dir, &fs); err != nil {
		return fmt.Errorf("looking at the file system of %s: %w", b.dir, err)
	}
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return fmt.Errorf("%s is in memory, where syncing costs nothing: name a directory on a disk by -dir", b.dir)
	}
	kind := "an image with ext4 of their own"
	if !b.opts.image {
		kind = fileSystem(fs.Type)
	} else if err := b.mountDisk(ctx); err != nil {
		return err
	}
	took, err := syncTime(b.peers)
	if err != nil {
		return fmt.Errorf("measuring a sync: %w", err)
	}
	fmt.Fprintf(b.report.out, "  both spools below %s (%s); syncing a new file of 4 KiB there takes %.2f ms (median)\n", b.dir, kind, milliseconds(took))
	return nil
}

func fileSystem(magic int64) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "XFS"
	case unix.BTRFS_SUPER_MAGIC:
		return "Btrfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	}
	return fmt.Sprintf("file system %#x", magic)
}

func syncTime(dir string) (time.Duration, error) {
	var times []time.Duration
	for range 50 {
		took, err := syncOnce(filepath.Join(dir, "sync"))
		if err != nil {
			return 0, err
		}
		times = append(times, took)
	}
	return median(times), nil
}

func syncOnce(path string) (time.Duration, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer os.Remove(path)
	defer f.Close()
	if _, err := f.Write(make([]byte, 4*kibibyte)); err != nil {
		return 0, err
	}
	begin := time.Now()
	err = f.Sync()
	return time.Since(begin), err
}
