package peer

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestFindCGroup2(t *testing.T) {
	const (
		other  = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
		pure   = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
		hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	)
	tests := []struct {
		name, mountinfo string
		want            cgroupMount
		ok              bool
	}{
		{"pure", pure, cgroupMount{"/sys/fs/cgroup", "/"}, true},
		{"hybrid", other + hybrid, cgroupMount{"/sys/fs/cgroup/unified", "/"}, true},
		{"version 1 only", other, cgroupMount{}, false},
		{"a part", "30 23 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n", cgroupMount{"/sys/fs/cgroup", "/docker/x"}, true},
		{"a part, then all", "30 23 0:26 /docker/x /a ro - cgroup2 cgroup rw\n31 23 0:26 / /b ro - cgroup2 cgroup rw\n", cgroupMount{"/b", "/"}, true},
		{"another namespace's", "30 23 0:26 /../.. /sys/fs/cgroup ro - cgroup2 cgroup rw\n", cgroupMount{}, false},
		{"escapes", `30 23 0:26 / /mnt/c\040g\134x rw - cgroup2 none rw` + "\n", cgroupMount{`/mnt/c g\x`, "/"}, true},
		{"broken", "30 - cgroup2 x\n - \n", cgroupMount{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := findCGroup2(tt.mountinfo); got != tt.want || ok != tt.ok {
				t.Errorf("got %+v, %v, want %+v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	all := cgroupMount{point: "/sys/fs/cgroup", root: "/"}
	part := cgroupMount{point: "/cg", root: "/docker/x"}
	tests := []struct {
		mount     cgroupMount
		dir, path string
		ok        bool
	}{
		{all, "/sys/fs/cgroup", "/", true},
		{all, "/sys/fs/cgroup/system.slice", "/system.slice", true},
		{all, "/sys/fs/cgroups/system.slice", "", false},
		{all, "/elsewhere", "", false},
		{all, "/sys/fs/cgroup/a (deleted)", "", false},
		{part, "/cg", "/docker/x", true},
		{part, "/cg/inner", "/docker/x/inner", true},
	}
	for _, tt := range tests {
		got, ok := tt.mount.describe(tt.dir)
		if got.path != tt.path || ok != tt.ok {
			t.Errorf("%+v: %s is %q, %v, want %q, %v", tt.mount, tt.dir, got.path, ok, tt.path, tt.ok)
		}
	}
}

// walkedTree is a CGroups over ordinary directories, which have inodes too.
func walkedTree(t testing.TB, dirs ...string) (*CGroups, string) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range dirs {
		makeDir(t, filepath.Join(root, dir))
	}
	mount := cgroupMount{point: root, root: "/"}
	return &CGroups{log: zap.NewNop(), mount: mount, walker: newWalker(mount), known: map[uint64]cgroup{}}, root
}

func makeDir(t testing.TB, dir string) uint64 {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return inodeOf(dir)
}

func TestWalkNamesEveryDirectory(t *testing.T) {
	c, root := walkedTree(t, "init.scope", "system.slice/cron.service", "user.slice/user-1.slice/user@1.service/app.slice")
	for _, path := range []string{"/", "/init.scope", "/system.slice/cron.service", "/user.slice/user-1.slice/user@1.service/app.slice"} {
		got, ok := c.Path(inodeOf(filepath.Join(root, path)))
		if got != path || !ok {
			t.Errorf("%s became %q, %v", path, got, ok)
		}
	}
	if c.walker.walks != 1 {
		t.Errorf("%d walks, want 1", c.walker.walks)
	}
	if cg, _ := c.lookup(inodeOf(filepath.Join(root, "system.slice/cron.service"))); cg.unit != "cron.service" {
		t.Errorf("unit %q", cg.unit)
	}
}

func TestNewAndRemovedCGroups(t *testing.T) {
	c, root := walkedTree(t, "system.slice/a.service")
	a := filepath.Join(root, "system.slice/a.service")
	old := inodeOf(a)
	if _, ok := c.Path(old); !ok {
		t.Fatal("not found")
	}
	// The name moves on to another directory; the old one still exists, so
	// that the file system cannot use its inode again.
	if err := os.Rename(a, filepath.Join(root, "kept")); err != nil {
		t.Fatal(err)
	}
	fresh := makeDir(t, a)
	if path, ok := c.Path(fresh); path != "/system.slice/a.service" || !ok {
		t.Errorf("the new one is %q, %v", path, ok)
	}
	if path, _ := c.Path(old); path != "/kept" {
		t.Errorf("the old one is %q", path)
	}
	if err := os.Remove(a); err != nil {
		t.Fatal(err)
	}
	if path, ok := c.Path(fresh); ok {
		t.Errorf("the removed one is still %q", path)
	}
}

func TestMissesAreCheap(t *testing.T) {
	c, root := walkedTree(t, "system.slice/a.service")
	start := time.Now()
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() {
			if path, ok := c.Path(1<<62 + uint64(i)); ok {
				t.Errorf("id %d is %q", i, path)
			}
		})
	}
	all.Wait()
	if most := 2 + int(time.Since(start)/minGap); c.walker.walks > most {
		t.Errorf("500 misses at once: %d walks, want at most %d", c.walker.walks, most)
	}
	// An id that was searched once is never searched again.
	before := c.walker.walks
	for range 1000 {
		c.Path(1 << 62)
	}
	if c.walker.walks != before {
		t.Errorf("%d walks for an id that is known to be gone", c.walker.walks-before)
	}
	// And a new cgroup is found in spite of them.
	if _, ok := c.Path(makeDir(t, filepath.Join(root, "new.service"))); !ok {
		t.Error("a new cgroup was not found")
	}
}

func TestDeadIDsAreBounded(t *testing.T) {
	w := newWalker(cgroupMount{})
	for id := range uint64(3 * maxDead) {
		w.bury(id)
	}
	if len(w.dead) > maxDead {
		t.Errorf("%d dead ids are remembered", len(w.dead))
	}
}

func TestNoCGroups(t *testing.T) {
	var c *CGroups
	if path, ok := c.Path(1); ok {
		t.Errorf("path %q without a hierarchy", path)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func BenchmarkWalk(b *testing.B) {
	c, err := OpenCGroups(nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for b.Loop() {
		c.walker.walk()
	}
	b.ReportMetric(float64(len(c.walker.found)), "cgroups")
}
