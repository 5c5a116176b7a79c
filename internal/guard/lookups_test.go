package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// until waits for what others are about to do.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// newLookupsBed is a guard that answers on a socket and reads look-ups.
func newLookupsBed(t *testing.T) *socketBed {
	t.Helper()
	b := newSocketBed(t)
	b.uid.Store(proxyUID)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { // ends by cancel, below
		defer close(ended)
		b.guard.supervise(ctx, "lookups", b.guard.lookups.run)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return b
}

// listen listens until the test ends, or leave is called.
func (b *socketBed) listen() (heard chan []byte, leave func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	heard = make(chan []byte, 1000)
	ended := make(chan error, 1)
	before := b.listening()
	go func() {
		ended <- NewClient(b.path, nil).Lookups(ctx, func(m []byte) { heard <- m })
	}()
	until(b.t, "listening", func() bool { return b.listening() > before })
	left := false
	leave = func() {
		cancel()
		if err := <-ended; !left && !errors.Is(err, context.Canceled) {
			b.t.Errorf("ended with %v", err)
		}
		left = true
		ended <- nil
	}
	b.t.Cleanup(leave)
	return heard, leave
}

func (b *socketBed) listening() int {
	b.guard.lookups.mu.Lock()
	defer b.guard.lookups.mu.Unlock()
	return len(b.guard.lookups.all)
}

func TestLookupsAreReadWhileSomebodyListens(t *testing.T) {
	b := newLookupsBed(t)
	first, leaveFirst := b.listen()
	second, leaveSecond := b.listen()
	messages := [][]byte{{0, 1, 2, '\n', 255}, []byte(strings.Repeat("x", 4068))}
	b.answers <- messages
	for _, heard := range []chan []byte{first, second} {
		for _, want := range messages {
			if got := <-heard; !slices.Equal(got, want) {
				t.Errorf("heard %q, want %q", got, want)
			}
		}
	}
	if opened, lost := b.called("open answers"), b.guard.lookups.lost.Load(); opened != 1 || lost != 5 {
		t.Errorf("opened %d times for two who listen, %d lost", opened, lost)
	}
	leaveFirst()
	until(t, "the first gone", func() bool { return b.listening() == 1 })
	b.answers <- messages[:1]
	<-second
	if n := b.called("close answers"); n != 0 {
		t.Errorf("closed %d times while one listens", n)
	}
	leaveSecond()
	until(t, "the reading ended", func() bool { return b.called("close answers") == 1 })
	third, _ := b.listen()
	b.answers <- messages[:1]
	<-third
	if opened, lost := b.called("open answers"), b.guard.lookups.lost.Load(); opened != 2 || lost != 10 {
		t.Errorf("opened %d times, %d lost", opened, lost)
	}
	if len(b.guard.conditions.all()) != 0 {
		t.Errorf("conditions %v", b.guard.conditions.all())
	}
}

func TestLookupsThatCannotBeReadAreACondition(t *testing.T) {
	b := newLookupsBed(t)
	b.failing("open answers", errors.New("another program reads this group"))
	heard, leave := b.listen()
	until(t, "a condition", func() bool { return b.guard.conditions.all()["lookups"] != "" })
	b.failing("open answers", nil)
	b.answers <- [][]byte{{1}} // after a second
	<-heard
	if c := b.guard.conditions.all(); len(c) != 0 {
		t.Errorf("conditions %v", c)
	}
	b.failing("read answers", io.ErrUnexpectedEOF)
	b.answers <- [][]byte{{2}}
	until(t, "a condition", func() bool { return b.guard.conditions.all()["lookups"] != "" })
	leave()
	until(t, "no condition, as nobody listens", func() bool { return len(b.guard.conditions.all()) == 0 })
}

// Who does not read costs a bounded memory and no time; others miss nothing by it.
func TestLookupsNobodyReads(t *testing.T) {
	b := newLookupsBed(t)
	stuck := b.dial()
	fmt.Fprintln(stuck, `{"op":"lookups"}`)
	until(t, "listening", func() bool { return b.listening() == 1 })
	one := b.guard.lookups.join()
	defer b.guard.lookups.leave(one)
	const many = 100_000
	message := make([]byte, 4000)
	begun := time.Now()
	for range many {
		b.guard.lookups.tell(message)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("telling took %s", took)
	}
	if n := len(one.answers); n != maxUnheard {
		t.Errorf("%d wait", n)
	}
	status, err := b.guard.Status(t.Context())
	if err != nil || status.LookupsLost < many-maxUnheard {
		t.Errorf("%d lost by the status, %v", status.LookupsLost, err)
	}
	stuck.Close()
	until(t, "gone", func() bool { return b.listening() == 1 })
}

func TestLookupsEndWithTheGuardAndAreNotForOthers(t *testing.T) {
	b := newLookupsBed(t)
	ended := make(chan error, 1)
	go func() { ended <- NewClient(b.path, nil).Lookups(t.Context(), func([]byte) {}) }()
	until(t, "listening", func() bool { return b.listening() == 1 })
	b.stop()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
	b = newLookupsBed(t)
	b.uid.Store(1000)
	err := NewClient(b.path, nil).Lookups(t.Context(), func([]byte) {})
	if err == nil || !strings.Contains(err.Error(), "not permitted") || b.called("open answers") != 0 {
		t.Errorf("got %v", err)
	}
}
