package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// fileIDKernfs is the type of a file handle in kernfs: eight bytes, the cgroup's id.
const fileIDKernfs = 0xfe

// maxKnown bounds the cgroups that are remembered when they are looked up one
// by one; the memory starts afresh beyond it.
const maxKnown = 16384

// CGroups turns cgroup ids into paths. The id of a cgroup is the inode of its
// directory and is never used again, not even when a cgroup of the same path is
// made anew, so that what is remembered is verified by one stat.
type CGroups struct {
	log   *zap.Logger
	mount cgroupMount
	root  *os.File
	open  bool // open_by_handle_at is permitted

	walker walker
	mu     sync.RWMutex
	known  map[uint64]cgroup
}

// cgroup is what is remembered of one id.
type cgroup struct {
	path            string
	unit, container string
	dir             string // where its directory is in the file system
}

// OpenCGroups finds the cgroup2 hierarchy, mounted alone or beside version 1,
// in /proc/self/mountinfo. Without one it returns an error and a nil *CGroups,
// which is usable and knows no path. A nil log means none.
func OpenCGroups(log *zap.Logger) (*CGroups, error) {
	if log == nil {
		log = zap.NewNop()
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("looking for the cgroup2 hierarchy: %w", err)
	}
	mount, ok := findCGroup2(string(mountinfo))
	if !ok {
		return nil, errors.New("no cgroup2 hierarchy is mounted")
	}
	root, err := os.Open(mount.point)
	if err != nil {
		return nil, fmt.Errorf("opening the cgroup2 hierarchy: %w", err)
	}
	c := &CGroups{log: log, mount: mount, root: root, known: map[uint64]cgroup{}}
	c.walker = newWalker(mount)
	c.open = c.mayOpenHandles()
	return c, nil
}

// Close frees the hierarchy. What is asked from then on may be unknown.
func (c *CGroups) Close() error {
	if c == nil {
		return nil
	}
	if err := c.root.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// Path is the path of the cgroup with this id, "/" for the root. It is not ok
// for a cgroup that is gone or that we may not see. It may wait up to about two
// seconds when a cgroup is new and has to be searched.
func (c *CGroups) Path(id uint64) (string, bool) {
	cg, ok := c.lookup(id)
	return cg.path, ok
}

// lookup is Path with everything that is remembered.
func (c *CGroups) lookup(id uint64) (cgroup, bool) {
	if c == nil || id == 0 {
		return cgroup{}, false
	}
	c.mu.RLock()
	cg, ok := c.known[id]
	c.mu.RUnlock()
	if ok && inodeOf(cg.dir) == id {
		return cg, true
	}
	if c.open {
		return c.openHandle(id)
	}
	return c.walker.find(id, c.replace)
}

// replace takes over what a walk has found.
func (c *CGroups) replace(found map[uint64]cgroup) {
	c.mu.Lock()
	c.known = found
	c.mu.Unlock()
}

// mayOpenHandles tries to open the root by its handle: whether that is allowed
// depends on capabilities, on the kernel and on seccomp.
func (c *CGroups) mayOpenHandles() bool {
	_, err := c.readHandle(inodeOf(c.mount.point))
	return err == nil
}

// openHandle names one cgroup without a search.
func (c *CGroups) openHandle(id uint64) (cgroup, bool) {
	dir, err := c.readHandle(id)
	if err != nil {
		c.log.Debug("cgroup gone", zap.Uint64("cgroup", id), zap.Error(err))
		return cgroup{}, false
	}
	cg, ok := c.mount.describe(dir)
	if !ok {
		return cgroup{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxKnown {
		c.known = make(map[uint64]cgroup)
	}
	c.known[id] = cg
	return cg, true
}

// readHandle is the file-system path of the directory with this id.
func (c *CGroups) readHandle(id uint64) (string, error) {
	raw, err := c.root.SyscallConn()
	if err != nil {
		return "", err
	}
	handle := unix.NewFileHandle(fileIDKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, oerr := -1, error(nil)
	err = raw.Control(func(root uintptr) {
		fd, oerr = unix.OpenByHandleAt(int(root), handle, unix.O_PATH|unix.O_CLOEXEC)
	})
	if err = errors.Join(err, oerr); err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
}

// inodeOf is the inode of a directory, 0 if it is gone.
func inodeOf(dir string) uint64 {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0
	}
	return st.Ino
}

// cgroupMount is where a cgroup2 hierarchy, or a part of it, can be seen.
type cgroupMount struct {
	point string // in the file system
	root  string // the cgroup that is mounted there, "/" for all
}

// describe makes the entry of the directory dir below the mount point.
func (m cgroupMount) describe(dir string) (cgroup, bool) {
	rel, ok := strings.CutPrefix(dir, m.point)
	if !ok || strings.HasSuffix(rel, " (deleted)") || rel != "" && rel[0] != '/' {
		return cgroup{}, false
	}
	path := strings.TrimSuffix(m.root, "/") + rel
	if path == "" {
		path = "/"
	}
	unit, container := ParseCGroup(path)
	return cgroup{path: path, unit: unit, container: container, dir: dir}, true
}

// findCGroup2 picks the cgroup2 mount that shows the most: the whole hierarchy
// if there is one.
func findCGroup2(mountinfo string) (cgroupMount, bool) {
	var best cgroupMount
	for line := range strings.Lines(mountinfo) {
		fields, super, ok := strings.Cut(line, " - ")
		if !ok || !strings.HasPrefix(super, "cgroup2 ") {
			continue
		}
		f := strings.Fields(fields)
		// A root with ".." is outside of our cgroup namespace: no path there
		// would mean anything.
		if len(f) < 5 || strings.HasPrefix(f[3], "/..") {
			continue
		}
		m := cgroupMount{root: unescapeMount(f[3]), point: unescapeMount(f[4])}
		if best.point == "" || len(m.root) < len(best.root) {
			best = m
		}
	}
	return best, best.point != ""
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
