package spool

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
)

// deed is something that can be done to a spool with the messages A and B.
type deed struct {
	name  string
	legal func(*world) bool // or it must fail and change nothing
	do    func(*world) error
}

// has reports whether A is ours.
func (w *world) has() bool { return w.messages["A"] != nil && w.messages["A"].now.state != "" }

func hasNot(w *world) bool { return !w.has() }

// deeds are all that can be done.
func deeds() []deed {
	var all []deed
	for _, state := range queued {
		all = append(all,
			deed{"commit " + string(state), hasNot, func(w *world) error { return w.commit("A", state, state == Active) }},
			deed{"settle " + string(state), (*world).has, func(w *world) error { return w.settle("A", state) }})
	}
	return append(all,
		deed{"activate", (*world).has, func(w *world) error { return w.activate("A") }},
		deed{"remove", (*world).has, func(w *world) error { return w.remove("A") }},
		deed{"discard held", func(w *world) bool { return w.has() && w.messages["A"].now.state == Hold }, func(w *world) error { return w.discard("A", Hold) }},
		deed{"drop", (*world).has, func(w *world) error { return w.drop("A") }},
		deed{"sync", func(*world) bool { return true }, (*world).sync},
		deed{"commit another", func(w *world) bool { return w.messages["B"] == nil }, func(w *world) error { return w.commit("B", Deferred, false) }},
		deed{"start again", func(*world) bool { return true }, (*world).open},
	)
}

// TestModel goes through every sequence of four deeds, stops the machine at every
// step of the last of them, and lets every step of it fail. The spool must then
// be as the model says: one message is in one place, it stays from the 250 until
// it is removed, it is never both refused and kept, what may have been tried says
// so, and what was settled stays settled.
func TestModel(t *testing.T) {
	for _, first := range deeds() {
		t.Run(first.name, func(t *testing.T) {
			t.Parallel()
			m := model{T: t, deeds: deeds()}
			if path := []deed{first}; m.try(path) {
				m.extend(path)
			}
			t.Logf("%d sequences, %d crashes, %d failures", m.sequences, m.crashes, m.failures)
		})
	}
}

type model struct {
	*testing.T
	deeds                        []deed
	sequences, crashes, failures int
}

// extend tries every deed after those of path.
func (m *model) extend(path []deed) {
	for _, d := range m.deeds {
		next := append(slices.Clone(path), d)
		if m.try(next) && len(next) < 4 && !m.Failed() {
			m.extend(next)
		}
	}
}

// names of the deeds, for the failure of a test.
func names(path []deed) string {
	all := make([]string, len(path))
	for i, d := range path {
		all[i] = d.name
	}
	return strings.Join(all, ", ")
}

// begin does all but the last deed, which do not fail.
func (m *model) begin(path []deed) *world {
	w := newWorld(simdisk.New())
	if err := w.open(); err != nil {
		m.Fatal(err)
	}
	for _, d := range path[:len(path)-1] {
		if err := d.do(w); err != nil {
			m.Fatalf("%s: %v", names(path), err)
		}
	}
	return w
}

// try checks one sequence and reports whether it is worth going on after it.
func (m *model) try(path []deed) bool {
	m.sequences++
	w, last := m.begin(path), path[len(path)-1]
	if strings.HasPrefix(last.name, "commit") && w.messages["A"] != nil && !w.has() {
		return false // ids are not used again
	}
	if !last.legal(w) {
		return m.tryIllegal(w, path)
	}
	before := w.disk.Steps()
	if err := last.do(w); err != nil {
		m.Fatalf("%s: %v", names(path), err)
	}
	w.checkNow(m.T)
	for step := before; step <= w.disk.Steps(); step++ {
		m.crash(path, step)
		m.fail(path, step)
	}
	if m.Failed() {
		m.Fatalf("after: %s", names(path))
	}
	return len(w.messages) > 0
}

// tryIllegal makes sure that the deed fails and changes nothing.
func (m *model) tryIllegal(w *world, path []deed) bool {
	before := map[string]expected{}
	for id, e := range w.messages {
		before[id] = *e
	}
	if w.messages["A"] == nil {
		w.messages["A"] = &expected{}
	}
	if err := path[len(path)-1].do(w); !errors.Is(err, ErrUnknown) && !errors.Is(err, fs.ErrExist) {
		m.Fatalf("%s: %v", names(path), err)
	}
	for id := range w.messages {
		e := before[id]
		e.killed = fates{e.now}
		w.messages[id] = &e
	}
	if w.checkNow(m.T); m.Failed() {
		m.Fatal(names(path))
	}
	return false
}

// crash stops the machine at a step of the last deed.
func (m *model) crash(path []deed, step int) {
	w := m.begin(path)
	w.disk.CrashAt = step
	err := path[len(path)-1].do(w)
	if err != nil && !errors.Is(err, simdisk.ErrCrashed) {
		m.Errorf("%v", err)
	}
	losses(uint64(5-len(path)), func(name string, loss simdisk.Loss, seed uint64) {
		m.crashes++
		if w.checkRestarted(m.T, w.disk.Restart(loss, seed), loss); m.Failed() {
			m.Fatalf("%s, %s at step %d", names(path), name, step)
		}
	})
}

// fail lets a step of the last deed fail.
func (m *model) fail(path []deed, step int) {
	if op := m.failOnce(path, step, false); op == "syncdir" {
		m.failOnce(path, step, true)
	}
}

// failOnce returns the operation that has failed.
func (m *model) failOnce(path []deed, step int, keeps bool) (op string) {
	m.failures++
	w := m.begin(path)
	w.disk.FailedSyncKeeps = keeps
	w.disk.Fail = func(s simdisk.Step) error {
		if s.N != step {
			return nil
		}
		op = s.Op
		return syscall.EIO
	}
	err := path[len(path)-1].do(w)
	w.disk.Fail = nil
	if err != nil && !errors.Is(err, syscall.EIO) {
		m.Errorf("got %v", err)
	}
	w.checkNow(m.T)
	losses(0, func(_ string, loss simdisk.Loss, seed uint64) {
		w.checkRestarted(m.T, w.disk.Restart(loss, seed), loss)
	})
	if m.Failed() {
		m.Fatalf("%s, %s fails at step %d, %v", names(path), op, step, keeps)
	}
	return op
}
