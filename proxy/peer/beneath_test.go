package peer

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A path that somebody else names leads to nothing outside the hierarchy, and
// to nothing that would hold or fill us.
func TestReadBeneath(t *testing.T) {
	outside, root := t.TempDir(), t.TempDir()
	write := func(path string) {
		if err := os.WriteFile(path, []byte("1 2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "cgroup.procs"))
	if err := os.MkdirAll(filepath.Join(root, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(root, "a", "b", "cgroup.procs"))
	for link, target := range map[string]string{"zero": "/dev/zero", "out": outside, "in": "a"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(root, "pipe"), 0o666); err != nil {
		t.Fatal(err)
	}
	if text, err := readBeneath(root, "a/b/cgroup.procs"); err != nil || string(text) != "1 2\n" {
		t.Fatalf("%q, %v", text, err)
	}
	began := time.Now()
	for _, path := range []string{
		"../" + filepath.Base(outside) + "/cgroup.procs", "a/../../" + filepath.Base(outside) + "/cgroup.procs",
		filepath.Join(outside, "cgroup.procs"), "zero", "out/cgroup.procs", "in/b/cgroup.procs", "pipe", "none",
	} {
		if text, err := readBeneath(root, path); err == nil && len(text) > 0 {
			t.Errorf("%s: read %d octets", path, len(text))
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
