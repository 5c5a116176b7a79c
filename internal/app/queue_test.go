package app

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy/spool"
	"github.com/smtpwall/smtpwall/systemd"
)

// startAdmin starts a proxy that has a socket for the commands.
func (h *host) startAdmin(t *testing.T, cfg *config.Config) {
	t.Helper()
	ln, err := admin.Listen(cfg.Listen.Admin, -1)
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false) // the one that is passed on stays
	defer ln.Close()
	passed, err := systemd.FromListener("admin", ln)
	if err != nil {
		t.Fatal(err)
	}
	options := h.options(t, cfg)
	options.Passed = append(options.Passed, passed)
	if h.proxy, err = StartProxy(t.Context(), options); err != nil {
		t.Fatal(err)
	}
}

// queued are the messages that a queue has, by id.
func queued(t *testing.T, queue *Queue, f spool.Filter) (ids []string) {
	t.Helper()
	err := queue.Items(t.Context(), f, func(item spool.Item) error {
		ids = append(ids, item.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

func openQueue(t *testing.T, cfg *config.Config) *Queue {
	t.Helper()
	queue, err := OpenQueue(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return queue
}

// The queue is asked and told while the proxy runs, and is the same to look at
// when it has ended.
func TestQueueWithAndWithoutItsProxy(t *testing.T) {
	h := newHost(t)
	cfg := h.configuration(t, "")
	cfg.Listen.Admin = filepath.Join(h.dir, "a")
	h.startAdmin(t, cfg)
	for range 3 {
		if err := h.submit(); err != nil {
			t.Fatal(err)
		}
	}
	queue := openQueue(t, cfg)
	held := spool.Filter{States: []spool.State{spool.Hold}}
	ids := queued(t, queue, held)
	if queue.Offline() != nil || len(ids) != 3 {
		t.Fatalf("the running proxy has %v, %v", ids, queue.Offline())
	}
	h.dropOne(t, queue, ids[0])
	status, err := ProxyStatus(t.Context(), cfg)
	if err != nil || status.Spool.Messages != 2 || status.Spool.ByState["hold"] != 2 || !status.Spool.Oldest.IsZero() {
		t.Errorf("its status is %+v, %v", status, err)
	}
	if err := h.proxy.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	queue = openQueue(t, cfg)
	if got := queued(t, queue, held); !errors.Is(queue.Offline(), ErrNoProxy) || !slices.Equal(got, ids[1:]) {
		t.Errorf("without it there are %v, %v; want %v", got, queue.Offline(), ids[1:])
	}
	err = queue.Act(t.Context(), admin.Drop, held, func(o admin.Outcome) { t.Errorf("%+v", o) })
	if !errors.Is(err, ErrNoProxy) {
		t.Errorf("without it a message is dropped: %v", err)
	}
	files, err := SpoolFiles(t.Context(), cfg)
	if err != nil || files.Messages != 2 || files.ByState["hold"] != 2 || !files.Oldest.IsZero() || files.Corrupt != 0 {
		t.Errorf("the files say %+v, %v", files, err)
	}
	checkMessage(t, queue, ids[1])
}

// dropOne drops a message, and once more.
func (h *host) dropOne(t *testing.T, queue *Queue, id string) {
	t.Helper()
	for _, want := range []string{"", "no such message"} {
		var got []admin.Outcome
		err := queue.Act(t.Context(), admin.Drop, spool.Filter{IDs: []string{id}, States: []spool.State{spool.Hold}}, func(o admin.Outcome) { got = append(got, o) })
		if err != nil || len(got) != 1 || got[0].ID != id || !strings.HasPrefix(got[0].Error, want) || (want == "") != (got[0].Error == "") {
			t.Errorf("%+v, %v; want %q", got, err, want)
		}
	}
}

func checkMessage(t *testing.T, queue *Queue, id string) {
	t.Helper()
	item, content, err := queue.Message(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	text, err := io.ReadAll(content)
	if err != nil || item.ID != id || !strings.HasSuffix(string(text), "From: a@example.com\r\n\r\nhello\r\n") || int64(len(text)) != item.Size {
		t.Errorf("%+v, %q, %v", item, text, err)
	}
	if got := queued(t, queue, spool.Filter{IDs: []string{id, "GONE"}}); !slices.Equal(got, []string{id}) {
		t.Errorf("by its id there is %v", got)
	}
	if got := queued(t, queue, spool.Filter{IDs: []string{id}, States: []spool.State{spool.Deferred}}); len(got) > 0 {
		t.Errorf("in another state there is %v", got)
	}
}

// Without a spool and without a proxy there is nothing, and it is said which.
func TestQueueOfNothing(t *testing.T) {
	h := newHost(t)
	cfg := h.configuration(t, "")
	cfg.Listen.Admin = filepath.Join(h.dir, "a")
	if _, err := OpenQueue(t.Context(), cfg); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := ProxyStatus(t.Context(), cfg); !errors.Is(err, ErrNoProxy) {
		t.Errorf("%v", err)
	}
	if files, err := SpoolFiles(t.Context(), cfg); err != nil || files.Messages != 0 {
		t.Errorf("%+v, %v", files, err)
	}
	cfg.Listen.Admin = ""
	if _, err := ProxyStatus(t.Context(), cfg); !errors.Is(err, ErrNoAdmin) {
		t.Errorf("%v", err)
	}
}

// A proxy that hangs is as none: what there is can be looked at.
func TestQueueOfAProxyThatHangs(t *testing.T) {
	h := newHost(t)
	cfg := h.configuration(t, "")
	cfg.Listen.Admin = filepath.Join(h.dir, "a")
	ln, err := net.Listen("unix", cfg.Listen.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client := admin.NewClient(cfg.Listen.Admin)
	if _, err := ask(t.Context(), client, cfg.Listen.Admin, 50*time.Millisecond); !errors.Is(err, ErrNoProxy) {
		t.Errorf("%v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ask(ended, client, cfg.Listen.Admin, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("one that does not wait is told %v", err)
	}
}
