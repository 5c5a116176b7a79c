package trail

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestFollow: each entry on the way is seen, behind links too, and the end is
// where the kernel finds it.
func TestFollow(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(top, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"up": "a/../a/b", "absolute": filepath.Join(top, "a"), "loop": "loop", "away": "nowhere", "a/b/program": "../../file",
	} {
		if err := os.Symlink(target, filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(top, "file"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"file": "file", "up/program": "file", "absolute/b/./program": "file", "a//b": "a/b", "a/b/..": "a",
	} {
		seen := []string{}
		end, err := Follow(top+"/"+path, func(directory string, entry fs.FileInfo) error {
			seen = append(seen, filepath.Join(directory, entry.Name()))
			return nil
		})
		if err != nil || end != filepath.Join(top, want) {
			t.Errorf("%s ends at %s, %v; want %s", path, end, err, want)
		}
		if !slices.Contains(seen, top) || path != "a/b/.." && !slices.Contains(seen, end) {
			t.Errorf("%s: seen %q", path, seen)
		}
	}
	ok := func(string, fs.FileInfo) error { return nil }
	for path, want := range map[string]error{"loop": syscall.ELOOP, "away": fs.ErrNotExist, "file/x": syscall.ENOTDIR} {
		if _, err := Follow(top+"/"+path, ok); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	if _, err := Follow(top+"/file", func(string, fs.FileInfo) error { return errors.ErrUnsupported }); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("the caller's word: %v", err)
	}
}
