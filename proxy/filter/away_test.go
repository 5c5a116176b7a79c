package filter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// checkAway asks a filter that is away, both ways of its configuration.
func checkAway(t *testing.T, f *fake, message func() Message) {
	t.Helper()
	for _, accept := range []bool{false, true} {
		asked := f.filter(func(o *Options) { o.Accept, o.Timeout = accept, 50*time.Millisecond })
		verdict, _, err := check(t, asked, message())
		want := map[bool]Action{false: Defer, true: Accept}[accept]
		if err == nil || verdict.Action != want || verdict.Changed || verdict.Body != nil {
			t.Errorf("accept %v: %+v, error %v", accept, verdict, err)
		}
		if verdict.Action == Defer && verdict.Reply.String() != "451 4.7.1 message cannot be filtered now, try again later" {
			t.Errorf("reply %v", verdict.Reply)
		}
		if condition := asked.Condition(); !strings.Contains(condition, "filter fake is away since 20") {
			t.Errorf("condition %q", condition)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	f := newFake(t)
	f.listener.Close()
	checkAway(t, f, testMessage)
}

// The filter hangs at each command, also at the negotiation.
func TestSilence(t *testing.T) {
	for _, stage := range []byte("O" + stages) {
		t.Run(string(stage), func(t *testing.T) {
			f := newFake(t)
			f.silent = stage
			checkAway(t, f.start(), testMessage)
		})
	}
}

// garbage is what no filter may say, whatever it was asked.
var garbage = map[string]string{
	"nothing":           "",
	"half a length":     "\x00\x00",
	"half a packet":     "\x00\x00\x00\x05c",
	"empty packet":      "\x00\x00\x00\x00",
	"huge packet":       "\x7f\xff\xff\xffc",
	"too large a one":   string([]byte{0, 0x10, 0, 1, 'c'}),
	"HTTP":              "HTTP/1.1 400 Bad Request\r\n\r\n",
	"unknown kind":      wire('z', ""),
	"skip, not offered": wire('s', ""),
	"no code":           wire('y', "\x00"),
	"reply without NUL": wire('y', "550 5.7.1 no"),
	"reply of 2yz":      wire('y', "250 2.0.0 fine\x00"),
	"reply of 3yz":      wire('y', "354 go on\x00"),
	"reply of 6yz":      wire('y', "650 what\x00"),
	"reply -50":         wire('y', "-50 what\x00"),
	"reply +50":         wire('y', "+50 what\x00"),
	"reply of letters":  wire('y', "abc what\x00"),
	"injected reply":    wire('y', "550 5.7.1 no\r\n250 yes\x00"),
	"injected line":     wire('y', "550 5.7.1 no\r\nMAIL FROM:<>\x00"),
	"bare LF in reply":  wire('y', "550-5.7.1 no\n550 really\x00"),
	"bare CR in reply":  wire('y', "550 5.7.1 no\rreally\x00"),
	"lines after last":  wire('y', "550-5.7.1 no\r\n550 last\r\n550 more\x00"),
	"no last line":      wire('y', "550-5.7.1 no\r\n550-last\x00"),
	"long reply":        wire('y', "550 "+strings.Repeat("x", 5000)+"\x00"),
	"strings in reply":  wire('y', "550 5.7.1 no\x00more\x00"),
}

// garbageAtTheEnd is what no filter may say of a message that it has.
var garbageAtTheEnd = map[string]string{
	"field without value":        wire('h', "X-New\x00"),
	"field without NUL":          wire('h', "X-New\x00value"),
	"field of three strings":     wire('h', "X-New\x00value\x00more\x00"),
	"field without name":         wire('h', "\x00value\x00"),
	"field with space":           wire('h', "X New\x00value\x00"),
	"field with colon":           wire('h', "X:New\x00value\x00"),
	"field with line end":        wire('h', "X\r\nNew\x00value\x00"),
	"field beyond ASCII":         wire('h', "X-Neu\xe4\x00value\x00"),
	"injected field":             wire('h', "X-New\x00value\r\nBcc: x@example.org\x00"),
	"injected field by LF":       wire('h', "X-New\x00value\nBcc: x@example.org\x00"),
	"injected body":              wire('h', "X-New\x00value\r\n\r\nbody\x00"),
	"bare CR in field":           wire('h', "X-New\x00value\rBcc: x@example.org\x00"),
	"injected by change":         wire('m', index(1)+"Subject\x00value\nBcc: x\x00"),
	"injected by insertion":      wire('i', index(0)+"Subject\x00value\nBcc: x\x00"),
	"change without index":       wire('m', "X\x00\x00"),
	"change of nothing":          wire('m', ""),
	"quarantine without NUL":     wire('q', "virus"),
	"recipient without NUL":      wire('+', "x@example.org"),
	"sender without NUL":         wire('e', "x@example.org"),
	"recipient with parameters":  wire('2', "<x@example.org>\x00SIZE=1\x00"),
	"macros, not offered":        wire('l', index(0)+"i\x00"),
	"bare CR in body":            wire('b', "one\rtwo\r\n"),
	"bare CR at the body's end":  wire('b', "one\r"),
	"bare CR between two bodies": wire('b', "one\r") + wire('b', "two"),
	"body above the bound":       wire('b', strings.Repeat("x\r\n", 1000)),
	"changes without end":        strings.Repeat(wire('h', "X-New\x00value\x00"), maxFrames+1),
	"four megabytes of changes":  strings.Repeat(wire('h', "X-New\x00"+strings.Repeat("x", 1<<19)+"\x00"), 9),
	"changes and no last word":   wire('h', "X-New\x00value\x00"),
}

func wire(code byte, data string) string { return string(packet{code, data}.wire()) }

func TestGarbage(t *testing.T) {
	for name, octets := range garbage {
		for _, stage := range []byte(stages) {
			t.Run(fmt.Sprintf("%s at %c", name, stage), func(t *testing.T) {
				f := newFake(t)
				f.raw[stage] = octets
				checkAway(t, f.start(), testMessage)
			})
		}
	}
	for name, octets := range garbageAtTheEnd {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.raw['E'] = octets
			if !strings.Contains(name, "no last word") {
				f.raw['E'] += wire('c', "")
			}
			f.small = true
			checkAway(t, f.start(), testMessage)
		})
	}
	// Changes are for the end; a filter that begins with them is none.
	for code, data := range map[byte]string{'h': "X-New\x00v\x00", 'b': "body\r\n", 'q': "why\x00", '+': "<x@example.org>\x00"} {
		t.Run(fmt.Sprintf("early %c", code), func(t *testing.T) {
			f := newFake(t)
			f.raw['B'] = wire(code, data) + wire('c', "")
			checkAway(t, f.start(), testMessage)
		})
	}
}

func TestBadNegotiation(t *testing.T) {
	for name, octets := range map[string]string{
		"short":         wire('O', index(6)),
		"other kind":    wire('c', ""),
		"version 1":     wire('O', index(1)+index(0)+index(0)),
		"version 0":     wire('O', index(0)+index(0)+index(0)),
		"nothing there": "",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.raw['O'] = octets
			checkAway(t, f.start(), testMessage)
		})
	}
}

// The end of the caller's patience is not the filter's fault, and never lets a
// message through.
func TestStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	f := newFake(t)
	f.silent = 'B'
	f.after = func(command byte) {
		if command == 'B' {
			cancel()
		}
	}
	asked := f.start().filter(func(o *Options) { o.Accept = true })
	verdict, err := asked.Check(ctx, testMessage())
	if verdict.Action != Defer || !errors.Is(err, context.Canceled) || asked.Condition() != "" {
		t.Errorf("%+v, error %v, condition %q", verdict, err, asked.Condition())
	}
	if verdict, err = asked.Check(ctx, testMessage()); verdict.Action != Defer || !errors.Is(err, context.Canceled) {
		t.Errorf("from the start: %+v, error %v", verdict, err)
	}
}

// A message that cannot be read is not the filter's fault either.
func TestUnreadableMessage(t *testing.T) {
	broken := errors.New("disk is gone")
	f := newFake(t).start().filter(func(o *Options) { o.Accept = true })
	m := testMessage()
	m.Body = io.MultiReader(strings.NewReader("some"), failing{broken})
	verdict, err := f.Check(context.Background(), m)
	if verdict.Action != Defer || !errors.Is(err, broken) || f.Condition() != "" {
		t.Errorf("%+v, error %v, condition %q", verdict, err, f.Condition())
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestNoRoomForANewBody(t *testing.T) {
	f := newFake(t)
	f.answers['E'] = []packet{{'b', strings.Repeat("x", 1<<20-1)}, {'b', "more"}, {'c', ""}}
	asked := f.start().filter(func(o *Options) { o.Accept, o.TempDir = true, filepath.Join(o.TempDir, "missing") })
	verdict, err := asked.Check(context.Background(), testMessage())
	if verdict.Action != Defer || !errors.Is(err, os.ErrNotExist) || asked.Condition() != "" {
		t.Errorf("%+v, error %v, condition %q", verdict, err, asked.Condition())
	}
}

// That a filter is away, and that it is back, is said once.
func TestAwayAndBack(t *testing.T) {
	core, logged := observer.New(zap.InfoLevel)
	f := newFake(t)
	address := f.listener.Addr().String()
	f.listener.Close()
	asked := f.filter(func(o *Options) { o.Logger = zap.New(core) })
	for range 2 {
		if verdict, _, err := check(t, asked, testMessage()); err == nil || verdict.Action != Defer {
			t.Errorf("%+v, error %v", verdict, err)
		}
	}
	var err error
	if f.listener, err = net.Listen("unix", address); err != nil {
		t.Fatal(err)
	}
	f.start()
	for range 2 {
		if verdict, _, err := check(t, asked, testMessage()); err != nil || verdict.Action != Accept || asked.Condition() != "" {
			t.Errorf("%+v, error %v, condition %q", verdict, err, asked.Condition())
		}
	}
	if all := logged.All(); len(all) != 2 || all[0].Message != "filter is away" || all[1].Message != "filter is back" {
		t.Errorf("logged %+v", all)
	}
}

// A socket whose queue is full belongs to a filter that is busy.
func TestBusyFilter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "milter.sock")
	socket, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Bind(socket, &syscall.SockaddrUnix{Name: path}), syscall.Listen(socket, 0)); err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(socket), path)
	f := newFake(t)
	f.listener.Close()
	if f.listener, err = net.FileListener(file); err != nil {
		t.Fatal(err)
	}
	file.Close()
	var waiting []net.Conn
	for {
		conn, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, conn)
	}
	time.AfterFunc(50*time.Millisecond, func() {
		for _, conn := range waiting {
			conn.Close()
		}
		f.start()
	})
	asked := New(Options{Name: "fake", Network: "unix", Address: path, Accept: true})
	if verdict, _, err := check(t, asked, testMessage()); err != nil || verdict.Action != Accept {
		t.Errorf("%+v, error %v", verdict, err)
	}
	if told := f.heard('E'); len(told) != 1 {
		t.Errorf("asked %d times", len(told))
	}
}

// Nor is the filter away when we have no descriptor left.
func TestNoDescriptorLeft(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	f := newFake(t).start().filter(func(o *Options) { o.Accept = true })
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	verdict, err := f.Check(context.Background(), testMessage())
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if verdict.Action != Defer || !errors.Is(err, syscall.EMFILE) || f.Condition() != "" {
		t.Errorf("%+v, error %v, condition %q", verdict, err, f.Condition())
	}
}
