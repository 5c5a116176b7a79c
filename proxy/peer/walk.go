package peer

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxDirs bounds a walk. It goes breadth first, so that somebody who
	// makes very many cgroups below his own hides nobody else's.
	maxDirs = 65536
	// restFactor and the two gaps bound how often a miss may walk: a tenth of
	// the time of one processor, whatever the misses.
	restFactor = 9
	minGap     = 20 * time.Millisecond
	maxGap     = time.Second
	// maxDead bounds how many ids are remembered that no walk has found.
	maxDead = 4096
)

// walker finds a cgroup by looking at all of them, which needs no privilege.
type walker struct {
	mount cgroupMount

	mu     sync.Mutex // held by the walk that all others wait for
	walks  int
	began  time.Time
	rested time.Time // when the next walk may begin
	found  map[uint64]cgroup
	failed bool // the walk could not read all, for no fault of a cgroup's owner
	dead   map[uint64]struct{}
}

func newWalker(mount cgroupMount) walker {
	return walker{mount: mount, dead: map[uint64]struct{}{}}
}

// find searches id and hands all that it has found to publish. Whoever asks
// while a walk is due shares it: the lock is kept through the rest before it.
func (w *walker) find(id uint64, publish func(map[uint64]cgroup)) (cgroup, bool) {
	asked := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	// Ids are never used again, so one that a walk could not find stays lost.
	if _, dead := w.dead[id]; dead {
		return cgroup{}, false
	}
	if !w.began.After(asked) {
		time.Sleep(time.Until(w.rested))
		w.walk()
		if !w.failed {
			publish(w.found)
		}
	}
	cg, ok := w.found[id]
	if !ok && !w.failed {
		w.bury(id)
	}
	return cg, ok
}

// bury remembers that id leads nowhere.
func (w *walker) bury(id uint64) {
	if len(w.dead) >= maxDead {
		clear(w.dead)
	}
	w.dead[id] = struct{}{}
}

// walk reads the hierarchy. A cgroup that comes or goes meanwhile is in the
// result or not; nothing that it says is wrong, since ids do not move.
func (w *walker) walk() {
	w.began, w.failed = time.Now(), false
	w.walks++
	w.found = make(map[uint64]cgroup, len(w.found))
	queue := []string{w.mount.point}
	for n := 0; n < len(queue) && n < maxDirs; n++ {
		queue = w.visit(queue[n], queue)
	}
	now := time.Now()
	w.rested = now.Add(min(max(restFactor*now.Sub(w.began), minGap), maxGap))
}

// visit notes the directory and appends those in it to the queue.
func (w *walker) visit(dir string, queue []string) []string {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return queue
	}
	if cg, ok := w.mount.describe(dir); ok {
		w.found[st.Ino] = cg
	}
	if st.Nlink == 2 {
		return queue // kernfs counts directories: there is none in here
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
		w.failed = true // out of descriptors, say
	}
	for _, e := range entries {
		if e.IsDir() && len(queue) < maxDirs {
			queue = append(queue, filepath.Join(dir, e.Name()))
		}
	}
	return queue
}
