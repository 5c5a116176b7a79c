package simdisk

import (
	"bytes"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
)

// node is a file or, with names, a directory: as running programs see it, and
// as the platter has it.
type node struct {
	mode fs.FileMode

	data, synced []byte
	lost         bool // a sync has failed: what is not synced never will be

	names, syncedNames map[string]*node
}

func newDir(perm fs.FileMode) *node {
	return &node{mode: perm | fs.ModeDir, names: map[string]*node{}, syncedNames: map[string]*node{}}
}

func (n *node) info(name string) info {
	return info{name: name, size: int64(len(n.data)), mode: n.mode}
}

// growth is how much longer the file gets by a write.
func (n *node) growth(p []byte, off int64) int64 {
	return max(off+int64(len(p))-int64(len(n.data)), 0)
}

func (n *node) write(p []byte, off int64) {
	if grow := n.growth(p, off); grow > 0 {
		n.data = append(n.data, make([]byte, grow)...)
	}
	copy(n.data[off:], p)
}

func (n *node) truncate(size int64) {
	more := size - int64(len(n.data))
	if more > 0 {
		n.data = append(n.data, make([]byte, more)...)
	}
	n.data = n.data[:size]
}

func (n *node) syncData() {
	if !n.lost {
		n.synced = bytes.Clone(n.data)
	}
}

// has reports whether m is below n.
func (n *node) has(m *node) bool {
	for _, next := range n.names {
		if next == m || next.has(m) {
			return true
		}
	}
	return false
}

// kept is where the file was first changed since it was synced.
func (n *node) kept() int {
	same := 0
	for same < len(n.data) && same < len(n.synced) && n.data[same] == n.synced[same] {
		same++
	}
	return same
}

func (n *node) syncNames() { n.syncedNames = maps.Clone(n.names) }

// Loss is what a crash does to what was not synced.
type Loss int

const (
	Kill  Loss = iota // nothing is lost: the process died, not the machine
	Power             // everything that was not synced is lost
	Torn              // each name and each file for itself is lost, kept or torn
)

// Restart is the disk after the crash, with everything on it synced and nothing
// open. The seed chooses among what Torn may do.
func (d *Disk) Restart(loss Loss, seed uint64) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := restart{loss: loss, rand: rand.New(rand.NewPCG(seed, 1)), done: map[*node]*node{}, kept: map[*node]bool{}}
	fresh := New()
	fresh.Capacity = d.Capacity
	fresh.root = r.copy(d.root)
	for _, n := range r.done {
		fresh.used += int64(len(n.data))
	}
	return fresh
}

// restart copies what survives.
type restart struct {
	loss Loss
	rand *rand.Rand
	done map[*node]*node // a file may have two names by now
	kept map[*node]bool  // whether what was done to its names is kept
}

func (r *restart) copy(n *node) *node {
	if done := r.done[n]; done != nil {
		return done
	}
	fresh := &node{mode: n.mode}
	r.done[n] = fresh
	if n.names == nil {
		fresh.data = r.content(n)
		fresh.synced = bytes.Clone(fresh.data)
		return fresh
	}
	fresh.names = map[string]*node{}
	all := maps.Clone(n.names)
	maps.Copy(all, n.syncedNames)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if kept := r.name(n.names[name], n.syncedNames[name]); kept != nil {
			fresh.names[name] = r.copy(kept)
		}
	}
	fresh.syncNames()
	return fresh
}

// name chooses what a name leads to: what it was when synced, or is now. A
// rename is one change, even from one directory to another: file systems for
// Linux keep both ends of it or none, unless only one end was synced.
func (r *restart) name(now, synced *node) *node {
	if r.loss == Kill || now == synced {
		return now
	}
	if r.loss == Power {
		return synced
	}
	moved := now
	if moved == nil {
		moved = synced
	}
	kept, known := r.kept[moved]
	if !known {
		kept = r.rand.IntN(2) == 0
		r.kept[moved] = kept
	}
	if kept {
		return now
	}
	return synced
}

// content chooses what is in a file.
func (r *restart) content(n *node) []byte {
	switch {
	case r.loss == Kill:
		return bytes.Clone(n.data)
	case r.loss == Power || bytes.Equal(n.data, n.synced):
		return bytes.Clone(n.synced)
	}
	// Of each block what was synced may be there still, or what is there now:
	// those before the cut and those behind it differ. What was synced and not
	// changed since stays.
	from := n.kept()
	cut := from + r.rand.IntN(len(n.data)-from+1)
	switch r.rand.IntN(5) {
	case 0:
		return bytes.Clone(n.synced)
	case 1:
		return bytes.Clone(n.data)
	case 2: // the end is missing
		return join(n.data, n.synced, cut)
	case 3: // the beginning is missing
		return join(n.synced, n.data, cut)
	default:
		return unlucky(n.data, n.synced, cut)
	}
}

// unlucky is a file that was extended but lacks the new blocks behind the cut; or
// one that was cut off but has its old length, with zeros behind the end in the
// last block, which a file system may write first.
func unlucky(now, synced []byte, cut int) []byte {
	if len(now) < len(synced) {
		torn := bytes.Clone(synced)
		end := (len(now) + blockSize - 1) / blockSize * blockSize
		clear(torn[copy(torn, now):min(end, len(torn))])
		return torn
	}
	torn := bytes.Clone(now)
	if clear(torn[cut:]); cut < len(synced) {
		copy(torn[cut:], synced[cut:])
	}
	return torn
}

const blockSize = 4096

// join is one content up to the cut, and another from there on.
func join(before, behind []byte, cut int) []byte {
	joined := make([]byte, 0, max(len(before), len(behind)))
	joined = append(joined, before[:min(cut, len(before))]...)
	if cut >= len(behind) {
		return joined
	}
	joined = append(joined, make([]byte, cut-len(joined))...)
	return append(joined, behind[cut:]...)
}
