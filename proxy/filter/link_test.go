package filter

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A filter that says that it is at work may be silent for the time again and
// again, but not for ever.
func TestProgressBuysTime(t *testing.T) {
	for _, c := range []struct {
		name   string
		pauses int // of 25 seconds, each but the last followed by progress
		want   error
		after  time.Duration
	}{
		{"one", 1, nil, 25 * time.Second},
		{"ten", 10, nil, 250 * time.Second},
		{"too many", 20, os.ErrDeadlineExceeded, 300 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer theirs.Close()
				link := newLink(ours, 30*time.Second, &replacement{})
				var filter sync.WaitGroup
				filter.Go(func() {
					for i := range c.pauses {
						time.Sleep(25 * time.Second)
						_, _ = theirs.Write(packet{map[bool]byte{false: 'p', true: 'c'}[i == c.pauses-1], ""}.wire())
					}
				})
				defer filter.Wait()
				defer ours.Close()
				began := time.Now()
				p, err := readPacket(link)
				if !errors.Is(err, c.want) || c.want == nil && p.code != 'c' {
					t.Errorf("packet %+v, error %v", p, err)
				}
				if took := time.Since(began); took != c.after {
					t.Errorf("took %v, want %v", took, c.after)
				}
			})
		})
	}
}

// Who drips octets is as silent as who sends none.
func TestDrippingFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		link := newLink(ours, 30*time.Second, &replacement{})
		var filter sync.WaitGroup
		filter.Go(func() {
			for _, octet := range (packet{'h', "X-New\x00value\x00"}).wire() {
				time.Sleep(10 * time.Second)
				if _, err := theirs.Write([]byte{octet}); err != nil {
					return
				}
			}
		})
		defer filter.Wait()
		defer ours.Close()
		began := time.Now()
		if _, err := readPacket(link); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 30*time.Second {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
	})
}

// Nobody reads at the other end.
func TestDeafFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		link := newLink(ours, 30*time.Second, &replacement{})
		began := time.Now()
		if _, err := link.Write([]byte("octets")); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 30*time.Second {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
	})
}

// FuzzConversation has a filter say anything at one of the stages: what comes
// out is always a message and a reply that may be passed on.
func FuzzConversation(f *testing.F) {
	for name, octets := range garbage {
		f.Add([]byte(octets), uint8(len(name)))
	}
	for _, octets := range garbageAtTheEnd {
		if len(octets) < 1<<10 {
			f.Add([]byte(octets+wire('c', "")), uint8(7))
		}
	}
	for _, c := range headerChanges {
		var octets string
		for _, p := range c.answers {
			octets += wire(p.code, p.data)
		}
		f.Add([]byte(octets+wire('a', "")), uint8(7))
	}
	f.Fuzz(func(t *testing.T, octets []byte, at uint8) {
		fake := newFake(t)
		fake.raw[stages[int(at)%len(stages)]] = string(octets)
		verdict, err := fake.start().filter(func(o *Options) { o.Timeout = time.Second }).Check(context.Background(), testMessage())
		if verdict.Body != nil {
			defer verdict.Body.Close()
		}
		checkVerdict(t, verdict, err)
	})
}

// checkVerdict checks what holds for each.
func checkVerdict(t *testing.T, v Verdict, err error) {
	t.Helper()
	wire := string(v.Reply.AppendTo(nil))
	switch v.Action {
	case Reject:
		if !v.Reply.Permanent() || err != nil {
			t.Errorf("%+v, error %v", v, err)
		}
	case Defer:
		if !v.Reply.Transient() || v.Reply.Code == 421 {
			t.Errorf("%+v", v)
		}
	default:
		if err != nil || v.Reply.Code != 0 {
			t.Errorf("%+v, error %v", v, err)
		}
		wire = ""
	}
	if strings.Count(wire, "\n") != len(v.Reply.Lines) || strings.ContainsFunc(v.Reason, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("reply %q, reason %q", wire, v.Reason)
	}
	if v.Changed != (v.Header != nil) || v.Body != nil && !v.Changed {
		t.Errorf("%+v", v)
	}
	if v.Changed {
		checkWords(t, v)
	}
}

// checkWords checks that no change broke the lines of the message.
func checkWords(t *testing.T, v Verdict) {
	t.Helper()
	if s := parseSection(v.Header); string(s.rest) != "\r\n" {
		t.Errorf("header section %q", v.Header)
	}
	body := ""
	if v.Body != nil {
		octets, err := io.ReadAll(v.Body)
		if err != nil {
			t.Fatal(err)
		}
		body = string(octets)
	}
	if strings.ContainsAny(strings.ReplaceAll(string(v.Header)+body, "\r\n", ""), "\r\n") {
		t.Errorf("bare CR or LF in %q %q", v.Header, body)
	}
}

func BenchmarkCheck(b *testing.B) {
	for name, steps := range map[string]uint32{"answering": 0, "silent": 0x7f<<12 | 1<<7 | 1<<19} {
		b.Run(name, func(b *testing.B) {
			listener, err := net.Listen("unix", filepath.Join(b.TempDir(), "milter.sock"))
			if err != nil {
				b.Fatal(err)
			}
			defer listener.Close()
			f := &fake{forgetful: true, network: "unix", listener: listener, version: 6, steps: steps, answers: map[byte][]packet{'E': {{'h', "X-New\x00v\x00"}, {'c', ""}}}}
			f.start()
			asked := New(Options{Name: "fake", Network: "unix", Address: listener.Addr().String()})
			b.ReportAllocs()
			for b.Loop() {
				m := testMessage()
				if _, err := asked.Check(context.Background(), m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
