package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/proxy/peer"
)

// placed is a control group of a unit or of a container, as the rules can match
// it: by its id, at a level that they look at.
type placed struct {
	id              uint64
	unit, container string
	// deep says that the control group itself is below the deepest level. The id
	// is that of the one above it there, which has others in it as well.
	deep bool
}

const (
	// maxPlaced bounds what is remembered of one look at the tree, maxWatched
	// the directories that are watched.
	maxPlaced  = 65536
	maxWatched = 4096
)

// cgroupTree looks for units and containers in the control groups that systemd
// and the container managers made: only slices and what is directly in them, as
// below a unit its user may have been given the right to make names.
type cgroupTree struct {
	mount   string // of the whole hierarchy
	inotify *os.File
	changed chan struct{}
	ended   chan struct{}
}

// openCGroupTree begins to watch.
func openCGroupTree() (*cgroupTree, error) {
	t := &cgroupTree{mount: newProcs().cgroups, changed: make(chan struct{}, 1), ended: make(chan struct{})}
	if t.mount == "" {
		return nil, errors.New("no whole cgroup2 hierarchy is mounted")
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watching control groups: %w", err)
	}
	t.inotify = os.NewFile(uintptr(fd), "inotify")
	go t.listen() // ends with the file; Close waits for it
	return t, nil
}

// Close ends the watching.
func (t *cgroupTree) Close() error {
	err := t.inotify.Close()
	<-t.ended
	return err
}

// Changed has something after a control group has come or gone.
func (t *cgroupTree) Changed() <-chan struct{} { return t.changed }

func (t *cgroupTree) listen() {
	defer close(t.ended)
	events := make([]byte, 64<<10)
	for {
		if _, err := t.inotify.Read(events); err != nil {
			return
		}
		select {
		case t.changed <- struct{}{}:
		default: // the last one has not been seen yet
		}
	}
}

// Look finds all of them. What comes while it looks, Changed tells.
func (t *cgroupTree) Look() ([]placed, error) {
	s := search{tree: t}
	err := s.slice("", nil)
	return s.found, err
}

// search is one look at the tree.
type search struct {
	tree    *cgroupTree
	found   []placed
	watched int
}

// slice looks at a slice, or the root, whose path has these ids from the top.
func (s *search) slice(path string, above []uint64) error {
	names, err := s.directories(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		below := path + "/" + name
		ids, ok := s.ids(below, above)
		if !ok {
			continue // gone meanwhile
		}
		if strings.HasSuffix(name, ".slice") {
			err = s.slice(below, ids)
		} else {
			err = s.unit(below, ids)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unit notes what is directly in a slice, and looks for containers in it if it
// is a place where their managers put them.
func (s *search) unit(path string, ids []uint64) error {
	unit, container := peer.ParseCGroup(path)
	if len(s.found) >= maxPlaced {
		return errors.New("there are too many control groups")
	}
	if unit != "" || container != "" {
		s.found = append(s.found, place(ids, unit, container))
	}
	if container != "" || !holdsContainers(path) {
		return nil
	}
	names, err := s.directories(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if below, ok := s.ids(path+"/"+name, ids); ok {
			if err := s.unitPart(path+"/"+name, below); err != nil {
				return err
			}
		}
	}
	return nil
}

// unitPart is unit for a control group inside: it counts if it is a container.
func (s *search) unitPart(path string, ids []uint64) error {
	if _, container := peer.ParseCGroup(path); container == "" && !holdsContainers(path) {
		return nil
	}
	return s.unit(path, ids)
}

// holdsContainers tells whether a control group below would be a container, had
// it the name of one.
func holdsContainers(path string) bool {
	id := strings.Repeat("0", 64)
	_, plain := peer.ParseCGroup(path + "/" + id)
	_, scope := peer.ParseCGroup(path + "/docker-" + id + ".scope")
	return plain != "" || scope != ""
}

func place(ids []uint64, unit, container string) placed {
	level := min(len(ids), deepestLevel)
	return placed{id: ids[level-1], unit: unit, container: container, deep: len(ids) > deepestLevel}
}

func (s *search) ids(path string, above []uint64) ([]uint64, bool) {
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(s.tree.mount, path), &st); err != nil {
		return nil, false
	}
	return append(above[:len(above):len(above)], st.Ino), true
}

// directories are those in a control group, which is watched from before they
// are read.
func (s *search) directories(path string) ([]string, error) {
	dir := filepath.Join(s.tree.mount, path)
	if s.watched++; s.watched > maxWatched {
		return nil, errors.New("there are too many slices")
	}
	if err := s.tree.watch(dir); err != nil {
		return nil, fmt.Errorf("watching control groups: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading control groups: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// watch adds a directory; one that is watched already, or gone, is no error.
func (t *cgroupTree) watch(dir string) error {
	raw, err := t.inotify.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		_, failed = unix.InotifyAddWatch(int(fd), dir, unix.IN_CREATE|unix.IN_DELETE|unix.IN_ONLYDIR)
	})
	if errors.Is(failed, unix.ENOENT) {
		failed = nil
	}
	return errors.Join(err, failed)
}
