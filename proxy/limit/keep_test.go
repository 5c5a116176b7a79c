package limit

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// childEnv makes of this test a process that counts until it is killed.
const childEnv = "LIMIT_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		if err := countForever(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

var endless = limits("uid:33", Limit{Messages, 1 << 30, 24 * time.Hour})

// countForever sends a message each millisecond and says so, with the time.
func countForever(path string) error {
	store, err := OpenFile(path)
	if err != nil {
		return err
	}
	l, err := Open(Options{Store: store})
	if err != nil {
		return err
	}
	n := l.State("uid:33", endless, time.Now())[0].Used
	for now := range time.Tick(time.Millisecond) {
		if !send(l, "uid:33", endless, now, Amount{Messages: 1}).Room {
			return errors.New("no room")
		}
		n++
		fmt.Println(n, time.Now().UnixNano())
	}
	return nil
}

// TestKill kills a process that counts, again and again: what it counted until a
// second before is there, and never nothing.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.db")
	for round := range 2 {
		said := runAndKill(t, path, 2300*time.Millisecond+time.Duration(round)*400*time.Millisecond)
		l := openAt(t, path)
		if c := l.Condition(); c != "" {
			t.Errorf("round %d: condition %q", round, c)
		}
		used := l.State("uid:33", endless, time.Now())[0].Used
		closed(t, l)
		last := said[len(said)-1]
		due := int64(0)
		for _, s := range said { // a second, and another that saving may take on a busy machine
			if last.at-s.at > int64(2*time.Second) {
				due = s.n
			}
		}
		t.Logf("round %d: said %d, kept %d", round, last.n, used)
		if used < max(due, 1) || used > last.n+1 {
			t.Errorf("round %d: %d kept of %d, at least %d are due", round, used, last.n, due)
		}
	}
}

type said struct{ n, at int64 }

// runAndKill gives what the child said until it had counted for this long.
func runAndKill(t *testing.T, path string, long time.Duration) []said {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var all []said
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var s said
		if _, err := fmt.Sscan(lines.Text(), &s.n, &s.at); err != nil {
			break // the last line, half
		}
		all = append(all, s)
		if s.at-all[0].at > int64(long) {
			_ = child.Process.Kill() // it may be dead already; Wait tells
		}
	}
	if err := child.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child ended by itself: %v", err)
	}
	if len(all) == 0 {
		t.Fatal("the child said nothing")
	}
	return all
}

// TestDamagedWhileRunning harms the file under a limiter that runs: what it counts
// is whole all the same, and all of it is in the store again after the next save.
func TestDamagedWhileRunning(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"removed":     os.Remove,
		"cut":         func(path string) error { return os.Truncate(path, 0) },
		"cut a bit":   func(path string) error { return os.Truncate(path, 12288) },
		"replaced":    func(path string) error { return replaceFile(path, []byte("not a database")) },
		"overwritten": func(path string) error { return overwrite(path, 8192, 1<<14) },
		"zeroed":      func(path string) error { return overwrite(path, 0, 1<<15) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "limits.db")
			l := openAt(t, path)
			for i := range 100 {
				send(l, "uid:1", limits(fmt.Sprint("uid:", i), thousand), start, Amount{Messages: int64(i)})
			}
			if err := l.flush(); err != nil {
				t.Fatal(err)
			}
			if err := harm(path); err != nil {
				t.Fatal(err)
			}
			send(l, "uid:1", limits("uid:1", thousand), start, Amount{Messages: 1})
			if err := l.flush(); err != nil {
				t.Fatal(err)
			}
			t.Log(l.Condition())
			closed(t, l)
			checkCounts(t, path)
		})
	}
}

// checkCounts opens the store and expects what TestDamagedWhileRunning counted, or a store that
// is known to be damaged.
func checkCounts(t *testing.T, path string) {
	t.Helper()
	l := openAt(t, path)
	defer closed(t, l)
	for i := range 100 {
		want := int64(i)
		if i == 1 {
			want++
		}
		key := fmt.Sprint("uid:", i)
		used := l.State(key, limits(key, thousand), start)[0].Used
		if used != want && used != thousand.Max {
			t.Errorf("%s: %d used, want %d", key, used, want)
		}
	}
}

func replaceFile(path string, content []byte) error {
	if err := os.WriteFile(path+".other", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".other", path)
}

func overwrite(path string, from, to int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(make([]byte, to-from), int64(from))
	return err
}

// TestFaultOfMemory cuts the file between the look at it and the transaction, where
// bbolt reads memory that is not there any more.
func TestFaultOfMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.db")
	l := openAt(t, path)
	for i := range 1000 {
		send(l, "uid:1", limits(fmt.Sprint("uid:", i), thousand), start, Amount{Messages: 1})
	}
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	store := l.store.(*file)
	if err := store.write(map[string][]byte{"c/uid:1": {1}}); !errors.Is(err, ErrDamaged) {
		t.Fatalf("writing gave %v", err)
	}
	send(l, "uid:1", limits("uid:1", thousand), start, Amount{Messages: 1})
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	closed(t, l)
	l = openAt(t, path)
	defer closed(t, l)
	if used := l.State("", limits("uid:1", thousand), start)[0].Used; used != 2 {
		t.Errorf("%d used, want 2", used)
	}
}

// failing is a store in memory that can be told to fail.
type failing struct {
	err   error
	kept  map[string][]byte
	saves int
}

func (f *failing) Load(give func(string, []byte) error) error {
	for key, value := range f.kept {
		if err := give(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (f *failing) Save(batch map[string][]byte) error {
	f.saves++
	if f.err != nil {
		return f.err
	}
	maps.Copy(f.kept, batch)
	maps.DeleteFunc(f.kept, func(_ string, value []byte) bool { return value == nil })
	return nil
}

func (f *failing) Close() error { return nil }

// on gives a limiter on a store, without the goroutine that saves.
func on(t *testing.T, store Store) *Limiter {
	t.Helper()
	l := newLimiter(Options{Store: store})
	if err := l.load(); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestStoreFails: while the store cannot be written that is told, and tried ever more
// seldom; then all is saved.
func TestStoreFails(t *testing.T) {
	store := &failing{kept: map[string][]byte{}}
	l := on(t, store)
	store.err, store.saves = errors.New("no space left on device"), 0
	budgets := limits("uid:1", thousand)
	for range 100 {
		send(l, "uid:1", budgets, start, Amount{Messages: 1})
		if l.due() {
			if err := l.flush(); err == nil {
				t.Fatal("it saved")
			}
		}
	}
	if store.saves != 7 { // after 0, 1, 2, 4, 8, 16 and 32 left out
		t.Errorf("tried %d times", store.saves)
	}
	if c := l.Condition(); !strings.Contains(c, "cannot be saved since") || !strings.Contains(c, "no space left") {
		t.Errorf("condition %q", c)
	}
	if err := l.Suspend(Suspension{Key: "uid:2", Since: start}); err == nil || !strings.Contains(err.Error(), "it is suspended, but not on disk") {
		t.Errorf("suspending: %v", err)
	}
	if _, ok := l.Suspended(start, "uid:2"); !ok {
		t.Error("not suspended")
	}
	store.err = nil
	if err := l.flush(); err != nil || l.Condition() != "" {
		t.Errorf("%v, condition %q", err, l.Condition())
	}
	l = on(t, store)
	if used := l.State("", budgets, start)[0].Used; used != 100 {
		t.Errorf("%d used", used)
	}
	if _, ok := l.Suspended(start, "uid:2"); !ok {
		t.Error("not suspended")
	}
}

// TestFullAtStart: a store that was read and cannot be written anew is as good as
// read; it is replaced as soon as it can be, and nothing is said to be damaged.
func TestFullAtStart(t *testing.T) {
	path, _ := written(t, 3)
	if err := os.MkdirAll(path+".new/x", 0o700); err != nil { // in the way
		t.Fatal(err)
	}
	l := openAt(t, path)
	if used := l.State("", limits("uid:2", thousand), start)[0].Used; used != 3 {
		t.Errorf("%d used", used)
	}
	if c := l.Condition(); !strings.Contains(c, "cannot be saved") {
		t.Errorf("condition %q", c)
	}
	if err := os.RemoveAll(path + ".new"); err != nil {
		t.Fatal(err)
	}
	send(l, "", limits("uid:2", thousand), start, Amount{Messages: 1})
	if err := l.flush(); err != nil || l.Condition() != "" {
		t.Errorf("%v, condition %q", err, l.Condition())
	}
	closed(t, l)
	l = openAt(t, path)
	defer closed(t, l)
	if used := l.State("", limits("uid:2", thousand), start)[0].Used; used != 4 {
		t.Errorf("%d used", used)
	}
	if aside, err := filepath.Glob(path + ".damaged-*"); err != nil || len(aside) > 0 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
}

// TestOneProcess: a second opener is told that there is a first.
func TestOneProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.db")
	l := openAt(t, path)
	defer closed(t, l)
	lock, err := os.Open(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := flock(lock, time.Now()); err == nil || err.Error() != "another process has it open" {
		t.Errorf("a second opener got %v", err)
	}
}

// TestDropAndBack: a key that is dropped and comes back before the next save is
// saved as it is then.
func TestDropAndBack(t *testing.T) {
	store := &failing{kept: map[string][]byte{}}
	l := on(t, store)
	budgets := limits("uid:1", Limit{Messages, 10, time.Minute})
	now := start
	for i := range 5 {
		send(l, "uid:1", budgets, now, Amount{Messages: 1})
		if i%2 == 0 {
			if err := l.flush(); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(2 * time.Minute)
		l.clock.at(now)
		for range sweepParts {
			l.sweep()
		}
		if n := l.count.Load(); n != 0 {
			t.Fatalf("%d entries left", n)
		}
	}
	send(l, "uid:1", budgets, now, Amount{Messages: 3})
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	if used := on(t, store).State("", budgets, now)[0].Used; used != 3 {
		t.Errorf("%d used after loading", used)
	}
	l.clock.at(now.Add(time.Hour))
	for range sweepParts {
		l.sweep()
	}
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	for key := range store.kept {
		if strings.HasPrefix(key, counterRecord) {
			t.Errorf("left in the store: %q", key)
		}
	}
}
