package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

func TestStatus(t *testing.T) {
	want := Status{
		Started: time.Now().UTC().Truncate(time.Second), Sessions: 7,
		Spool:      SpoolStatus{Bytes: 1 << 20, MaxBytes: 1 << 30, Messages: 3, ByState: map[string]int{"deferred": 3}, Corrupt: 1},
		Relays:     []relay.Status{{Name: "main", Breaker: "open", Error: "no route"}},
		Conditions: map[string]string{"audit": "disk full"},
	}
	client := NewClient(open(t, &shelf{status: want}))
	got, err := client.Status(t.Context())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if err := client.Alive(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestItems(t *testing.T) {
	var items []spool.Item
	for i := range 1000 {
		items = append(items, message(fmt.Sprintf("M%d", i)))
	}
	items[3].State = spool.Hold
	empty := &shelf{}
	filter := spool.Filter{
		States: []spool.State{spool.Deferred}, Reason: "later", OlderThan: 90 * time.Second,
		IDs: []string{"A", "B"}, Identity: "uid:33", Relay: "main",
	}
	if err := NewClient(open(t, empty)).Items(t.Context(), filter, func(spool.Item) error { return errors.New("an item of none") }); err != nil {
		t.Fatal(err)
	}
	if asked, _, _ := empty.heard(); len(asked) != 1 || !reflect.DeepEqual(asked[0], filter) {
		t.Errorf("the filter arrived as %+v, want %+v", asked, filter)
	}
	var got []spool.Item
	err := NewClient(open(t, &shelf{items: items})).Items(t.Context(), spool.Filter{States: []spool.State{spool.Deferred}}, func(item spool.Item) error {
		got = append(got, item)
		return nil
	})
	want := append(append([]spool.Item{}, items[:3]...), items[4:]...)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%d items, %v; want %d, the first %+v", len(got), err, len(want), want[0])
	}
}

func TestItemsStop(t *testing.T) {
	client := NewClient(open(t, &shelf{items: []spool.Item{message("A"), message("B")}}))
	enough := errors.New("enough")
	if err := client.Items(t.Context(), spool.Filter{}, func(spool.Item) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("the error of yield came as %v", err)
	}
}

// What could be listed is, before the error.
func TestItemsWithAnError(t *testing.T) {
	client := NewClient(open(t, &shelf{items: []spool.Item{message("A")}, failure: errors.New("message B: damaged")}))
	n := 0
	err := client.Items(t.Context(), spool.Filter{}, func(spool.Item) error { n++; return nil })
	if n != 1 || err == nil || err.Error() != "the proxy: message B: damaged" {
		t.Errorf("%d items, %v", n, err)
	}
}

func TestMessage(t *testing.T) {
	want := message("A")
	whole := strings.Repeat("0123456789\r\n", 100_000)
	client := NewClient(open(t, &shelf{items: []spool.Item{want}, content: map[string]io.ReadCloser{"A": text(whole)}}))
	item, content, err := client.Message(t.Context(), "A")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(content)
	if err != nil || string(got) != whole || !reflect.DeepEqual(item, want) {
		t.Errorf("%d octets, %v, %+v; want %d, %+v", len(got), err, item, len(whole), want)
	}
	if err := content.Close(); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"B", "../A", "a b?c", "%2e"} {
		if _, _, err := client.Message(t.Context(), id); !errors.Is(err, spool.ErrUnknown) {
			t.Errorf("message %q: %v, want %v", id, err, spool.ErrUnknown)
		}
	}
}

// failing gives some octets and then an error.
type failing struct{ io.Reader }

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errors.New("input/output error")
	}
	return n, err
}
func (failing) Close() error { return nil }

// Half a message must not be taken for a whole one.
func TestHalfAMessage(t *testing.T) {
	half := failing{strings.NewReader(strings.Repeat("x", 50_000))}
	client := NewClient(open(t, &shelf{items: []spool.Item{message("A")}, content: map[string]io.ReadCloser{"A": half}}))
	_, content, err := client.Message(t.Context(), "A")
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	if _, err := io.Copy(io.Discard, content); err == nil {
		t.Error("half a message was read without an error")
	}
}

func TestAct(t *testing.T) {
	s := &shelf{items: []spool.Item{message("A"), message("B")}}
	client := NewClient(open(t, s))
	var got []Outcome
	f := spool.Filter{IDs: []string{"A"}, States: Retry.States()}
	if err := client.Act(t.Context(), Retry, f, func(o Outcome) { got = append(got, o) }); err != nil {
		t.Fatal(err)
	}
	want := []Outcome{{ID: "A", Done: 1, Total: 2}, {ID: "B", Error: "no such message", Done: 2, Total: 2}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if _, orders, by := s.heard(); !slices.Equal(orders, []Op{Retry}) || !slices.Equal(by, []uint32{uint32(os.Geteuid())}) {
		t.Errorf("the proxy got %v by %v", orders, by)
	}
	for _, bad := range []struct {
		op Op
		f  spool.Filter
	}{
		{"shred", f},
		{Retry, spool.Filter{}}, // would be every state
		{Retry, spool.Filter{States: []spool.State{spool.Hold}}},
		{Release, spool.Filter{States: []spool.State{spool.Hold, spool.Deferred}}},
		{Drop, spool.Filter{States: []spool.State{"corrupt"}}},
	} {
		if err := client.Act(t.Context(), bad.op, bad.f, func(Outcome) {}); err == nil {
			t.Errorf("%s of %v was obeyed", bad.op, bad.f.States)
		}
	}
	if _, orders, _ := s.heard(); len(orders) != 1 {
		t.Errorf("the proxy got %v", orders)
	}
}

// Who ordered and is gone has the rest left undone.
func TestActEndsWithItsClient(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	began := make(chan struct{})
	s := &shelf{items: []spool.Item{message("A"), message("B")}}
	s.acted = func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}
	client := NewClient(open(t, s))
	go func() { <-began; cancel() }() // ends at the first message
	if err := client.Act(ctx, Drop, spool.Filter{States: Drop.States()}, func(Outcome) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the order ended with %v", err)
	}
}

func TestNoProxy(t *testing.T) {
	path := socketPath(t)
	if err := NewClient(path).Alive(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a socket: %v", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
	if err := NewClient(path).Alive(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("with a dead socket: %v", err)
	}
	// The next one takes its place, and not that of one that lives.
	next, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if _, err := Listen(path, -1); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Errorf("a second listener: %v", err)
	}
	file := socketPath(t)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file, -1); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("in place of a file: %v", err)
	}
}

// A proxy that is there and says nothing is not asked for ever.
func TestSilentProxy(t *testing.T) {
	path := socketPath(t)
	ln, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := NewClient(path).Alive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
