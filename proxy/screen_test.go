package proxy

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-milter"
	"go.uber.org/zap/zaptest"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/filter"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// reader is a milter that does what the body tells it.
type reader struct {
	milter.NoOpMilter
	body bytes.Buffer
}

func (r *reader) BodyChunk(chunk []byte, _ *milter.Modifier) (milter.Response, error) {
	r.body.Write(chunk)
	return milter.RespContinue, nil
}

func (r *reader) Body(m *milter.Modifier) (milter.Response, error) {
	switch text := r.body.String(); {
	case strings.Contains(text, "please reject"):
		return milter.RespReject, nil
	case strings.Contains(text, "please defer"):
		return milter.RespTempFail, nil
	case strings.Contains(text, "please discard"):
		return milter.RespDiscard, nil
	case strings.Contains(text, "please quarantine"):
		return milter.RespAccept, m.Quarantine("it says so")
	case strings.Contains(text, "please replace"):
		return milter.RespAccept, errors.Join(m.ReplaceBody([]byte("replaced\r\n")), m.AddHeader("X-Replaced", "yes"))
	}
	return milter.RespAccept, m.AddHeader("X-Read", "yes")
}

// filtered puts the milter before the stand.
func filtered(t *testing.T, b *stand) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &milter.Server{
		NewMilter: func() milter.Milter { return &reader{} },
		Actions:   milter.OptAddHeader | milter.OptChangeBody | milter.OptQuarantine,
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	b.settings.TempDir, b.settings.TempMax = t.TempDir(), 8<<20
	b.settings.Filters = append(b.settings.Filters, filter.New(filter.Options{
		Name: "reader", Network: "tcp", Address: listener.Addr().String(), Timeout: 5 * time.Second, Logger: zaptest.NewLogger(t),
	}))
}

// What a filter says of a message is what becomes of it: in proxy mode, in queue
// mode, and with a body that does not fit into memory.
func TestFilters(t *testing.T) {
	const end = "\r\n"
	for name, c := range map[string]struct {
		body, reply, hold, decision string
		relayHas                    []string
	}{
		"pass":       {"hello", "250 ", "", "allow", []string{"X-Read: yes\r\n", "\r\n\r\nhello\r\n"}},
		"dots":       {"..hello", "250 ", "", "allow", []string{"\r\n\r\n.hello\r\n"}},
		"long":       {strings.Repeat("long lines here\r\n", 9000) + "the end", "250 ", "", "allow", []string{"X-Read: yes\r\n", "long lines here\r\nthe end\r\n"}},
		"replace":    {"please replace", "250 ", "", "allow", []string{"X-Replaced: yes\r\n", "\r\n\r\nreplaced\r\n"}},
		"reject":     {"please reject", "550 5.7.1 ", "", "deny", nil},
		"defer":      {"please defer", "451 4.7.1 ", "", "defer", nil},
		"quarantine": {"please quarantine", "250 2.0.0 held", spool.HoldFilter, "hold", nil},
		"discard":    {"please discard", "250 2.0.0 held", spool.HoldFilter, "hold", nil},
	} {
		for _, mode := range []string{"proxy", "queue"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				b := newStand(t, map[string]string{"mode": mode})
				filtered(t, b)
				b.runner.Apply(b.settings)
				t.Cleanup(func() { _ = b.runner.Stop(t.Context()) })
				if reply := b.send(t, "a@example.com", strings.TrimSuffix(c.body, end), "b@example.net"); !strings.HasPrefix(reply, c.reply) {
					t.Fatalf("the client hears %q, want %q", reply, c.reply)
				}
				checkFiltered(t, b, c.hold, c.relayHas)
				for _, e := range b.events.all() {
					if e.Kind == audit.KindTransaction && e.Decision != c.decision {
						t.Errorf("event %+v, want the decision %s", e, c.decision)
					}
				}
			})
		}
	}
}

func checkFiltered(t *testing.T, b *stand, hold string, relayHas []string) {
	t.Helper()
	if len(relayHas) > 0 {
		wait(t, "the relay has the message", func() bool { return len(b.relay.Messages()) == 1 })
		data := string(b.relay.Messages()[0].Bytes)
		for _, part := range relayHas {
			if !strings.Contains(data, part) {
				t.Errorf("the relay has %.200q … %.100q without %q", data, data[max(0, len(data)-100):], part)
			}
		}
		if !strings.HasPrefix(data, "Received: ") {
			t.Errorf("it begins %.60q, not with our trace field", data)
		}
		return
	}
	if n := len(b.relay.Messages()); n != 0 {
		t.Errorf("the relay has %d messages", n)
	}
	n := 0
	for item, err := range b.spool.All() {
		if n++; err != nil || item.State != spool.Hold || item.Progress.Hold != hold {
			t.Errorf("the spool has %+v, %v", item, err)
		}
	}
	if want := len(hold); (n == 1) != (want > 0) {
		t.Errorf("%d messages in the spool, hold %q", n, hold)
	}
}

// The second filter sees what the first has made of the message, and so does the
// relay.
func TestFiltersInTurn(t *testing.T) {
	b := newStand(t, nil)
	filtered(t, b)
	filtered(t, b)
	if reply := b.send(t, "a@example.com", "please replace", "b@example.net"); !strings.HasPrefix(reply, "250 ") {
		t.Fatal(reply)
	}
	checkFiltered(t, b, "", []string{"X-Replaced: yes\r\n", "X-Read: yes\r\n", "\r\n\r\nreplaced\r\n"})
}

// A filter that is away refuses for now, or lets pass, as configured.
func TestFilterAway(t *testing.T) {
	for _, accept := range []bool{true, false} {
		b := newStand(t, nil)
		b.settings.TempDir, b.settings.TempMax = t.TempDir(), 8<<20
		b.settings.Filters = []*filter.Filter{filter.New(filter.Options{
			Name: "gone", Network: "unix", Address: "/nowhere/milter.sock", Accept: accept, Timeout: time.Second, Logger: zaptest.NewLogger(t),
		})}
		reply, want := b.send(t, "a@example.com", "x", "b@example.net"), "451 4.7.1 "
		if accept {
			want = "250 "
		}
		if !strings.HasPrefix(reply, want) {
			t.Errorf("accept %v: %q", accept, reply)
		}
		if n := len(b.relay.Messages()); (n == 1) != accept {
			t.Errorf("accept %v: the relay has %d messages", accept, n)
		}
		events := b.events.all()
		if e := events[len(events)-1]; !accept && (e.Decision != policy.Defer.String() || !strings.Contains(e.Reason, "filter gone")) {
			t.Errorf("event %+v", e)
		}
	}
}

// What waits for filters takes no more of the disk than it may, and gives it back.
func TestFiltersTakeBoundedRoom(t *testing.T) {
	b := newStand(t, nil)
	filtered(t, b)
	b.settings.TempMax = 2 << 20 // half of it is for one identity
	long := strings.Repeat("long lines here\r\n", 10_000)
	for range 3 {
		if reply := b.send(t, "a@example.com", long+"the end", "b@example.net"); !strings.HasPrefix(reply, "250 ") {
			t.Fatalf("a message that has room: %q", reply)
		}
	}
	b.settings.TempMax = 1 << 20
	if reply := b.send(t, "a@example.com", long+"the end", "b@example.net"); !strings.HasPrefix(reply, "452 4.3.1 ") {
		t.Errorf("one without room: %q", reply)
	}
	if n := b.server.attic.used + int64(len(b.server.attic.by)); n != 0 {
		t.Errorf("%d octets are still taken", n)
	}
}
