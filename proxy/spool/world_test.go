package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
)

// fate is what a message is; the zero fate is that it is not there.
type fate struct {
	state     State
	attempts  int
	duplicate bool
}

// afterRestart is what recovery makes of it.
func (f fate) afterRestart() fate {
	if f.state == Active {
		f.state, f.duplicate = Deferred, true
	}
	return f
}

// fates are what a message may be.
type fates []fate

func (fs fates) with(more ...fate) fates { return append(slices.Clone(fs), more...) }

func (fs fates) each(change func(fate) fate) fates {
	changed := fs.with()
	for _, f := range fs {
		changed = append(changed, change(f))
	}
	return changed
}

func (fs fates) afterRestart() fates {
	after := make(fates, len(fs))
	for i, f := range fs {
		after[i] = f.afterRestart()
	}
	return after
}

// expected is what the outside world knows of a message.
type expected struct {
	text   string
	now    fate  // as the spool must show it
	killed fates // as it may be found after kill -9
	lost   fates // as it may be found after power loss
}

// settled says that nothing else is possible any more.
func (e *expected) settled(f fate) { e.now, e.killed, e.lost = f, fates{f}, fates{f} }

// world is a spool on a simulated disk, and a model of what must be in it. It
// stops at the first error, as whoever uses a spool would.
type world struct {
	disk     *simdisk.Disk
	s        *Spool
	messages map[string]*expected

	rest []Due // what every try says, none of it short

	starting, started int // steps at the ends of the last start
}

func newWorld(disk *simdisk.Disk) *world {
	return &world{disk: disk, messages: map[string]*expected{}}
}

// open starts the spool, or starts it again.
func (w *world) open() error {
	if w.s != nil {
		w.s.lock.Close()
		w.s = nil
	}
	for _, m := range w.messages {
		// The mark is durable before the name is, which may be an older one.
		marked := func(f fate) fate { f.duplicate = f.duplicate || m.now.state == Active; return f }
		m.killed = m.killed.each(fate.afterRestart)
		m.lost = m.lost.with(m.killed...).each(fate.afterRestart).each(marked)
	}
	w.starting = w.disk.Steps()
	s, err := Open("/var/spool", Options{FS: w.disk, MaxBytes: 1 << 20})
	w.started = w.disk.Steps()
	if err != nil {
		return err
	}
	s.group.soon, s.spares.rest = -1, -1 // steps must be the same in each run
	w.s = s
	w.durable()
	for _, m := range w.messages {
		m.settled(m.now.afterRestart())
	}
	return nil
}

// durable is called when the spool has said that all renames are.
func (w *world) durable() {
	for _, m := range w.messages {
		m.settled(m.now)
	}
}

// textOf is what a message says; those named Big outgrow every buffer, and those
// named Mid do it by less.
func textOf(id string) string {
	lines := 1
	switch {
	case strings.HasPrefix(id, "Big"):
		lines = 5_500
	case strings.HasPrefix(id, "Mid"):
		lines = 2_500
	}
	return strings.Repeat("Subject: "+id+"\r\n", lines)
}

// commit takes a message. Who hears an error keeps it, and the spool does not;
// only if the machine stops meanwhile it may be either.
func (w *world) commit(id string, state State, tee bool) error {
	e := sampleEntry()
	e.ID = id
	m := &expected{text: textOf(id)}
	m.settled(fate{})
	w.messages[id] = m
	writer := w.s.Tee(func() Entry { return e })
	if !tee {
		var err error
		if writer, err = w.s.Create(e); err != nil {
			return err
		}
	}
	defer writer.Abort()
	if _, err := io.WriteString(writer, m.text); err != nil {
		return err
	}
	taken := fate{state: state}
	err := writer.Commit(state, Progress{})
	switch {
	case err == nil:
		w.durable()
		m.settled(taken)
	case errors.Is(err, simdisk.ErrCrashed):
		m.killed, m.lost = fates{{}, taken}, fates{{}, taken}
	}
	return err
}

func (w *world) abort(id string, tee bool) error {
	e := sampleEntry()
	e.ID = id
	m := &expected{text: textOf(id)}
	m.settled(fate{})
	w.messages[id] = m
	writer := w.s.Tee(func() Entry { return e })
	if !tee {
		var err error
		if writer, err = w.s.Create(e); err != nil {
			return err
		}
	}
	defer writer.Abort()
	_, err := io.WriteString(writer, m.text)
	return err
}

func (w *world) activate(id string) error {
	m := w.messages[id]
	next := m.now
	next.state = Active
	m.killed, m.lost = m.killed.with(next), m.lost.with(next)
	err := w.s.Activate(id)
	if err == nil {
		m.now, m.killed = next, fates{next}
	}
	return err
}

func (w *world) sync() error {
	err := w.s.Sync(context.Background())
	if err == nil {
		w.durable()
	}
	return err
}

func (w *world) settle(id string, to State) error {
	m := w.messages[id]
	next := fate{state: to, attempts: m.now.attempts + 1, duplicate: m.now.duplicate}
	written := func(f fate) fate { f.attempts = next.attempts; return f }
	torn := func(f fate) fate { f.duplicate = true; return f }
	m.killed = m.killed.each(torn).each(written).with(next)
	m.lost = m.lost.each(torn).each(written).with(next)
	err := w.s.Settle(id, Progress{Attempts: next.attempts, PossibleDuplicate: next.duplicate, Rest: w.rest}, to)
	if err == nil {
		m.now = next
		w.durable()
	}
	return err
}

func (w *world) remove(id string) error {
	m := w.messages[id]
	m.killed, m.lost = m.killed.with(fate{}), m.lost.with(fate{})
	err := w.s.Remove(id)
	if err == nil {
		m.now, m.killed = fate{}, fates{{}}
	}
	return err
}

// discard is remove, of a message that is in this state.
func (w *world) discard(id string, state State) error {
	m := w.messages[id]
	m.killed, m.lost = m.killed.with(fate{}), m.lost.with(fate{})
	err := w.s.Discard(id, state)
	if err == nil {
		m.now, m.killed = fate{}, fates{{}}
	}
	return err
}

func (w *world) drop(id string) error {
	m := w.messages[id]
	m.killed, m.lost = m.killed.with(fate{}), m.lost.with(fate{})
	err := w.s.Drop(id)
	if err == nil {
		m.now = fate{}
		w.durable()
	}
	return err
}

// checkNow compares the spool as it is, if it is open, with the model.
func (w *world) checkNow(t *testing.T) {
	t.Helper()
	if w.s == nil {
		return
	}
	for id, m := range w.messages {
		if got, err := w.show(w.s, id); err != nil || !slices.Contains(m.killed, got) {
			t.Errorf("message %s is %+v, %v; may be %+v", id, got, err, m.killed)
		}
	}
}

// show is what a message is in a spool.
func (w *world) show(s *Spool, id string) (fate, error) {
	item, err := s.Show(id)
	if errors.Is(err, ErrUnknown) {
		return fate{}, nil
	}
	return fate{item.State, item.Progress.Attempts, item.Progress.PossibleDuplicate}, err
}

// losses are the ways in which a disk may come back.
func losses(seeds uint64, try func(name string, loss simdisk.Loss, seed uint64)) {
	try("killed", simdisk.Kill, 0)
	try("power lost", simdisk.Power, 0)
	for seed := range seeds {
		try(fmt.Sprintf("torn %d", seed), simdisk.Torn, seed)
	}
}

// checkRestarted starts the spool on a disk that came back, and compares.
func (w *world) checkRestarted(t *testing.T, disk *simdisk.Disk, loss simdisk.Loss) {
	t.Helper()
	w.checkPlaces(t, disk, loss)
	s, err := Open("/var/spool", Options{FS: disk, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatalf("opening after the restart: %v", err)
	}
	defer s.Close()
	for id, m := range w.messages {
		may := m.killed
		if loss != simdisk.Kill {
			may = m.lost
		}
		got, err := w.show(s, id)
		if err != nil || !slices.Contains(may.afterRestart(), got) {
			t.Errorf("message %s is %+v, %v; may be %+v", id, got, err, may.afterRestart())
			continue
		}
		if got.state == "" {
			continue
		}
		item, text := get(t, s, id)
		if text != m.text {
			t.Errorf("message %s is not whole: %d bytes of %d", id, len(text), len(m.text))
		}
		w.checkAlone(t, s, item)
	}
	checkTidy(t, s)
}

// checkAlone looks for other messages' text in a message's file.
func (w *world) checkAlone(t *testing.T, s *Spool, item Item) {
	t.Helper()
	o, err := s.open(item.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	raw, err := readRange(o, 0, item.Stored)
	if err != nil {
		t.Fatal(err)
	}
	for other := range w.messages {
		if other != item.ID && bytes.Contains(raw, []byte("Subject: "+other+"\r\n")) {
			t.Errorf("the file of %s has something of %s", item.ID, other)
		}
	}
}

// checkPlaces looks at the names alone, before anything has put them right: a
// message is in one place at every instant.
func (w *world) checkPlaces(t *testing.T, disk *simdisk.Disk, loss simdisk.Loss) {
	t.Helper()
	places := map[string]int{}
	st := store{dir: "/var/spool", fs: disk}
	dirs := []string{queueDir}
	if loss == simdisk.Kill { // else a name of before may be back
		dirs = append(dirs, corruptDir)
	}
	for _, dir := range dirs {
		err := st.eachFile(dir, func(e fs.DirEntry) error {
			id, _, _ := strings.Cut(e.Name(), ".")
			if places[id]++; places[id] > 1 {
				t.Errorf("message %s has another place: %s/%s", id, dir, e.Name())
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// checkTidy looks for what should not be there, and for a wrong count.
func checkTidy(t *testing.T, s *Spool) {
	t.Helper()
	var held int64
	for _, dir := range []string{incomingDir, queueDir, corruptDir} {
		err := s.eachFile(dir, func(e fs.DirEntry) error {
			info, err := e.Info()
			if err != nil {
				return err
			}
			held += blocks(info.Size())
			if dir != queueDir {
				t.Errorf("%s has %s", dir, e.Name())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if held != used(s) {
		t.Errorf("%d bytes in files, %d counted", held, used(s))
	}
	if _, err := tryPut(s, Entry{ID: "After"}, "works again", Deferred); err != nil {
		t.Errorf("not usable after the restart: %v", err)
	}
}
