package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/smtpwall/smtpwall/proxy/spool"
)

// pipes is a listener of connections in memory, which keep fake time.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
}

func newPipes() *pipes          { return &pipes{conns: make(chan net.Conn)} }
func (p *pipes) Close() error   { p.once.Do(func() { close(p.conns) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }
func (p *pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p *pipes) dial() net.Conn {
	here, there := net.Pipe()
	p.conns <- there
	return here
}

// endless yields items until it is stopped, and remembers why and when.
type endless struct {
	shelf
	ended chan error
}

func (e *endless) Items(_ context.Context, _ spool.Filter, yield func(spool.Item) error) error {
	for {
		if err := yield(message("A")); err != nil {
			e.ended <- err
			return err
		}
	}
}

func request(method, path, body string) []byte {
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: smtpwall\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		method, path, len(body), body)
}

// inFakeTime serves endless items without a gate while fn runs.
func inFakeTime(t *testing.T, fn func(e *endless, dial func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		e, p := &endless{ended: make(chan error, 1)}, newPipes()
		server := NewServer(Options{Reader: e, Actor: e})
		ended := make(chan error, 1)
		go func() { ended <- server.http.Serve(p) }() // waited for below
		fn(e, p.dial)
		if err := server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// A client that asks and does not read is given up, and holds nobody up.
func TestReaderThatDoesNotRead(t *testing.T) {
	inFakeTime(t, func(e *endless, dial func() net.Conn) {
		start := time.Now()
		deaf := dial()
		defer deaf.Close()
		if _, err := deaf.Write(request("POST", pathList, "{}")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		other := dial()
		if _, err := other.Write(request("GET", pathAlive, "")); err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 12)
		if _, err := io.ReadFull(other, head); err != nil || string(head) != "HTTP/1.1 204" || time.Since(start) > 0 {
			t.Errorf("meanwhile another hears %q, %v, after %v", head, err, time.Since(start))
		}
		_ = other.Close()
		<-e.ended
		if took := time.Since(start); took != answerTime {
			t.Errorf("it was given up after %v, want %v", took, answerTime)
		}
	})
}

// One that reads a little each time is given up too.
func TestReaderThatDripFeeds(t *testing.T) {
	inFakeTime(t, func(e *endless, dial func() net.Conn) {
		start := time.Now()
		slow := dial()
		defer slow.Close()
		if _, err := slow.Write(request("POST", pathList, "{}")); err != nil {
			t.Fatal(err)
		}
		for piece := make([]byte, 32<<10); len(e.ended) == 0; {
			time.Sleep(answerTime - time.Second)
			if _, err := slow.Read(piece); err != nil {
				break
			}
			synctest.Wait()
		}
		if err := <-e.ended; time.Since(start) > workTime+2*answerTime {
			t.Errorf("it ended with %v after %v, want %v", err, time.Since(start), workTime)
		}
	})
}

// One that does not say what it wants has no place for long.
func TestSilentClients(t *testing.T) {
	for _, test := range []struct {
		name, begin string
		within      time.Duration
	}{
		{"nothing", "", headTime},
		{"half a head", "GET /v1/status HTTP/1.1\r\nHost:", headTime},
		{"half a body", string(request("POST", pathList, "{}"))[:len(request("POST", pathList, "{}"))-1], requestTime},
	} {
		t.Run(test.name, func(t *testing.T) {
			inFakeTime(t, func(_ *endless, dial func() net.Conn) {
				start := time.Now()
				conn := dial()
				defer conn.Close()
				if _, err := conn.Write([]byte(test.begin)); err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, conn)
				if took := time.Since(start); took > test.within+time.Second {
					t.Errorf("closed after %v, want %v", took, test.within)
				}
			})
		})
	}
}

// Requests that make no sense are refused and reach nobody.
func TestSenselessRequests(t *testing.T) {
	s := &shelf{items: []spool.Item{message("A")}}
	path := open(t, s)
	for _, test := range []struct {
		name    string
		request []byte
		want    string
	}{
		{"no HTTP", []byte("QUIT\r\n\r\n"), "HTTP/1.1 400"},
		{"a long head", []byte("GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n"), "HTTP/1.1 431"},
		{"another path", request("GET", "/etc/passwd", ""), "HTTP/1.1 404"},
		{"another method", request("DELETE", pathMessages+"A", ""), "HTTP/1.1 405"},
		{"an order by GET", request("GET", pathAct+"drop", ""), "HTTP/1.1 405"},
		{"no filter", request("POST", pathAct+"drop", ""), "HTTP/1.1 400"},
		{"half a filter", request("POST", pathAct+"drop", `{"states":["hold"]`), "HTTP/1.1 400"},
		{"two filters", request("POST", pathAct+"drop", `{"states":["hold"]}{}`), "HTTP/1.1 400"},
		{"a filter of another version", request("POST", pathAct+"drop", `{"states":["hold"],"sender":"x"}`), "HTTP/1.1 400"},
		{"no state", request("POST", pathAct+"drop", `{}`), "HTTP/1.1 400"},
		{"an age that overflows", request("POST", pathList, `{"older_than":1e300}`), "HTTP/1.1 400"},
		{"an age before the message", request("POST", pathList, `{"older_than":-1}`), "HTTP/1.1 400"},
		{"a form, as a browser may send", bytes.Replace(request("POST", pathAct+"drop", `{"states":["hold"]}`),
			[]byte("application/json"), []byte("text/plain"), 1), "HTTP/1.1 400"},
		{"a long body", request("POST", pathList, `{"reason":"`+strings.Repeat("x", maxFilter)+`"}`), "HTTP/1.1 400"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = conn.Write(test.request) // it may be closed before its end
			head := make([]byte, len(test.want))
			if _, err := io.ReadFull(conn, head); err != nil || string(head) != test.want {
				t.Errorf("%q, %v; want %q", head, err, test.want)
			}
		})
	}
	if asked, orders, _ := s.heard(); len(asked) > 0 || len(orders) > 0 {
		t.Errorf("the proxy was asked %v and told %v", asked, orders)
	}
}

// Shutdown does not wait for a request that could go on for an hour.
func TestShutdownEndsRequests(t *testing.T) {
	began := make(chan struct{})
	s := &shelf{items: []spool.Item{message("A")}, acted: func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}}
	ln, err := Listen(socketPath(t), -1)
	if err != nil {
		t.Fatal(err)
	}
	server := serve(t, s, ln)
	got := make(chan error, 1)
	go func() { // ends with the server
		got <- NewClient(ln.Addr().String()).Act(context.Background(), Drop, spool.Filter{States: Drop.States()}, func(Outcome) {})
	}()
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-got; err == nil {
		t.Error("the client was told that all was done")
	}
}

// broken panics when it is asked.
type broken struct{ shelf }

func (*broken) Status(context.Context) (Status, error) { panic("out of order") }

// A panic costs the one request, and is told.
func TestPanic(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	b := &broken{}
	ln, err := Listen(socketPath(t), -1)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(Options{Reader: b, Actor: b, Logger: zap.New(core)})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }() // waited for below
	client := NewClient(ln.Addr().String())
	if _, err := client.Status(t.Context()); err == nil {
		t.Error("a panic gave a status")
	}
	if err := client.Alive(t.Context()); err != nil {
		t.Errorf("after a panic: %v", err)
	}
	if n := logs.FilterMessageSnippet("out of order").Len(); n != 1 {
		t.Errorf("the panic was told %d times", n)
	}
	if err := errors.Join(server.Shutdown(t.Context()), <-ended); err != nil {
		t.Error(err)
	}
}

// FuzzFilter: a body is a filter that means the same again, or an error.
func FuzzFilter(f *testing.F) {
	for _, body := range []string{`{}`, `{"ids":["A"],"states":["hold"],"older_than":15}`, `{"older_than":1000000000}`, `[]`, `null`, `{"reason":"\u0000"}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := http.NewRequest(http.MethodPost, pathList, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", typeJSON)
		read, err := readFilter(nil, r)
		if err != nil {
			return
		}
		if read.OlderThan < 0 {
			t.Fatalf("an age of %v", read.OlderThan)
		}
		again, err := json.Marshal(read)
		if err != nil {
			t.Fatal(err)
		}
		var got spool.Filter
		if err := json.Unmarshal(again, &got); err != nil || got.Reason != read.Reason || got.OlderThan != read.OlderThan || !slices.Equal(got.IDs, read.IDs) {
			t.Fatalf("%s became %s, %v", body, again, err)
		}
	})
}
