package filter

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// kinds are the commands that a fake was told, without macros, in order.
func (f *fake) kinds() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var kinds []byte
	for _, p := range f.told {
		if p.code != 'D' {
			kinds = append(kinds, p.code)
		}
	}
	return string(kinds)
}

// A filter is spared what it does not want, and is not waited for where it says
// that it does not answer.
func TestSteps(t *testing.T) {
	const silent = 1<<7 | 1<<12 | 1<<13 | 1<<14 | 1<<15 | 1<<16 | 1<<17 | 1<<18 | 1<<19
	for _, c := range []struct {
		name  string
		steps uint32
		told  string
	}{
		{"all", 0, "OCHMRRLLLLNBEAQ"},
		{"silent", silent, "OCHMRRLLLLNBEAQ"},
		{"no connection", 1 << 0, "OHMRRLLLLNBEAQ"},
		{"no HELO", 1 << 1, "OCMRRLLLLNBEAQ"},
		{"no sender", 1 << 2, "OCHRRLLLLNBEAQ"},
		{"no recipients", 1 << 3, "OCHMLLLLNBEAQ"},
		{"no body", 1 << 4, "OCHMRRLLLLNEAQ"},
		{"no fields", 1 << 5, "OCHMRRNBEAQ"},
		{"no end of header", 1 << 6, "OCHMRRLLLLBEAQ"},
		{"the least", 0x7f | silent, "OEAQ"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			f.steps = c.steps
			f.answers['E'] = []packet{{'h', "X-New\x00v\x00"}, {'c', ""}}
			verdict, _, err := check(t, f.start().filter(nil), testMessage())
			if err != nil || !strings.Contains(string(verdict.Header), "\r\nX-New:") {
				t.Errorf("%+v, error %v", verdict, err)
			}
			f.listener.Close()
			f.done.Wait()
			if told := f.kinds(); told != c.told {
				t.Errorf("told %s, want %s", told, c.told)
			}
		})
	}
}

func TestTCP(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		f := newFakeOn(t, "tcp", address)
		f.answers['E'] = []packet{{'y', "550 5.7.1 no\x00"}}
		if verdict, _, err := check(t, f.start().filter(nil), testMessage()); err != nil || verdict.Action != Reject {
			t.Errorf("%s: %+v, error %v", address, verdict, err)
		}
	}
}

func TestABodyThatNobodyWantsIsNotRead(t *testing.T) {
	f := newFake(t)
	f.steps = 1 << 4
	m := testMessage()
	m.Body = failing{io.ErrUnexpectedEOF}
	if verdict, _, err := check(t, f.start().filter(nil), m); err != nil || verdict.Action != Accept {
		t.Errorf("%+v, error %v", verdict, err)
	}
}

// An old filter is dialled twice for the first message and once for the next.
func TestOldVersion(t *testing.T) {
	f := newFake(t)
	f.version = 2
	f.answers['E'] = []packet{{'h', "X-New\x00v\x00"}, {'c', ""}}
	asked := f.start().filter(nil)
	for range 2 {
		verdict, _, err := check(t, asked, testMessage())
		if err != nil || !strings.Contains(string(verdict.Header), "\r\nX-New: v\r\n") {
			t.Errorf("%+v, error %v", verdict, err)
		}
	}
	f.listener.Close()
	f.done.Wait()
	if told := strings.Count(f.kinds(), "O"); told != 3 {
		t.Errorf("%d negotiations, want 3", told)
	}
	offers := f.heard('O')
	if last := offers[len(offers)-1]; last != index(6)+index(0x3f)+index(0x7f) {
		t.Errorf("offered %q to an old filter", last)
	}
}

func TestBodyInChunks(t *testing.T) {
	f := newFake(t)
	m := testMessage()
	body := strings.Repeat("0123456789abcdef", 10000) // 160,000 octets
	m.Body = oddPieces{strings.NewReader(body)}
	if _, _, err := check(t, f.start().filter(nil), m); err != nil {
		t.Fatal(err)
	}
	chunks := f.heard('B')
	if len(chunks) != 3 || strings.Join(chunks, "") != body || len(chunks[0]) != 65535 {
		t.Errorf("%d chunks, the first of %d octets", len(chunks), len(chunks[0]))
	}
}

// oddPieces gives what its reader gives in odd pieces.
type oddPieces struct{ r io.Reader }

func (o oddPieces) Read(p []byte) (int, error) { return o.r.Read(p[:max(1, len(p)*2/3)]) }

func TestClients(t *testing.T) {
	for _, c := range []struct {
		addr, name string
		told       string
	}{
		{"", "", "localhost\x004\x00\x00127.0.0.1\x00"},
		{"127.0.0.1", "", "localhost\x004\x00\x00127.0.0.1\x00"},
		{"::1", "", "localhost\x006\x00\x00::1\x00"},
		{"::ffff:192.0.2.1", "", "[192.0.2.1]\x004\x00\x00192.0.2.1\x00"},
		{"2001:db8::7", "", "[2001:db8::7]\x006\x00\x002001:db8::7\x00"},
		{"fe80::1%eth0", "", "[fe80::1]\x006\x00\x00fe80::1\x00"},
		{"192.0.2.1", "web.example.com", "web.example.com\x004\x00\x00192.0.2.1\x00"},
		{"192.0.2.1", "we\x00ird", "we?ird\x004\x00\x00192.0.2.1\x00"},
	} {
		t.Run(c.addr+" "+c.name, func(t *testing.T) {
			f := newFake(t)
			m := testMessage()
			m.ClientName, m.Client = c.name, netip.Addr{}
			if c.addr != "" {
				m.Client = netip.MustParseAddr(c.addr)
			}
			if _, _, err := check(t, f.start().filter(nil), m); err != nil {
				t.Fatal(err)
			}
			if told := f.heard('C'); len(told) != 1 || told[0] != c.told {
				t.Errorf("told %q, want %q", told, c.told)
			}
		})
	}
}

// What is unknown is not told as something.
func TestLeastMessage(t *testing.T) {
	f := newFake(t)
	m := Message{HostName: "host.example.com", Envelope: smtp.Envelope{Recipients: []smtp.Recipient{{Address: "b@example.net"}}}}
	if verdict, _, err := check(t, f.start().filter(nil), m); err != nil || verdict.Action != Accept {
		t.Fatalf("%+v, error %v", verdict, err)
	}
	if told := f.heard('M'); !slices.Equal(told, []string{"<>\x00"}) {
		t.Errorf("sender %q", told)
	}
	if told := f.heard('H'); !slices.Equal(told, []string{"host.example.com\x00"}) {
		t.Errorf("HELO %q", told)
	}
	for _, macros := range f.heard('D') {
		if macros[0] == 'H' || strings.Contains(macros, "auth") {
			t.Errorf("macros %q", macros)
		}
	}
	if told := f.heard('L'); told != nil {
		t.Errorf("fields %q", told)
	}
	if told := f.heard('B'); told != nil {
		t.Errorf("body %q", told)
	}
}

// A field that does not fit in a packet is refused before anybody is asked, also
// where a filter that is away lets messages pass.
func TestFieldTooLong(t *testing.T) {
	f := newFake(t).filter(func(o *Options) { o.Accept = true })
	for size, want := range map[int]Action{maxFieldSize + 1: Reject, maxFieldSize: Accept} {
		m := testMessage()
		field := "X-Long: " + strings.Repeat("x", size-len("X-Long: \r\n")) + "\r\n"
		m.Header = []byte("Subject: a\r\n" + field + "\r\n")
		ctx, cancel := context.WithCancel(context.Background())
		if want == Accept {
			cancel() // nobody listens there; that it is asked at all is enough
		}
		verdict, err := f.Check(ctx, m)
		cancel()
		if (verdict.Action == Reject) != (want == Reject) || (err == nil) != (want == Reject) {
			t.Errorf("%d octets: %+v, error %v", size, verdict, err)
		}
		if want == Reject && verdict.Reply.String() != "552 5.3.4 header field X-Long is too long" {
			t.Errorf("reply %v", verdict.Reply)
		}
	}
}

// A large new body lies in a file without a name; a small one in memory.
func TestLargeNewBody(t *testing.T) {
	for _, size := range []int{maxInMemory - 2, maxInMemory, maxInMemory + 2, 5 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			body := strings.Repeat("0123456789abcd\n", size/16) + strings.Repeat("x", size%16)
			f := newFake(t)
			for rest := body; rest != ""; {
				n := min(len(rest), 65535)
				f.answers['E'] = append(f.answers['E'], packet{'b', rest[:n]})
				rest = rest[n:]
			}
			f.answers['E'] = append(f.answers['E'], packet{'c', ""})
			dir := t.TempDir()
			verdict, got, err := check(t, f.start().filter(func(o *Options) { o.TempDir = dir }), testMessage())
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left %v, error %v", left, err)
			}
			want := strings.ReplaceAll(body, "\n", "\r\n")
			if size%16 > 0 {
				want += "\r\n"
			}
			if err != nil || got != want {
				t.Errorf("%d octets, want %d, error %v", len(got), len(want), err)
			}
			if string(verdict.Header) != testHeader {
				t.Errorf("header %q", verdict.Header)
			}
		})
	}
}

// What a mail program may take for the body is told as the body.
func TestHiddenBody(t *testing.T) {
	for _, c := range []struct{ header, fields, body, added, replaced string }{
		{"A: 1\r\nno field\r\nB: 2\r\n\r\n", "A\x001\x00", "no field\r\nB: 2\r\n\r\n" + testBody,
			"A: 1\r\nX: v\r\nno field\r\nB: 2\r\n\r\n", "A: 1\r\nX: v\r\n\r\n"},
		{"From anna Sun Nov 22\r\nA: 1\r\n\r\n", "", "From anna Sun Nov 22\r\nA: 1\r\n\r\n" + testBody,
			"X: v\r\nFrom anna Sun Nov 22\r\nA: 1\r\n\r\n", "X: v\r\n\r\n"},
		{" folded under nothing\r\n\r\n", "", " folded under nothing\r\n\r\n" + testBody, "X: v\r\n folded under nothing\r\n\r\n", "X: v\r\n\r\n"},
		{"\r\n", "", testBody, "X: v\r\n\r\n", "X: v\r\n\r\n"},
		{"A : 1\r\n\r\n", "A\x001\x00", testBody, "A : 1\r\nX: v\r\n\r\n", "A : 1\r\nX: v\r\n\r\n"},
		{"A: n\x00l\r\n\r\n", "A\x00n l\x00", testBody, "A: n\x00l\r\nX: v\r\n\r\n", "A: n\x00l\r\nX: v\r\n\r\n"},
		{"A: 1\r\n", "A\x001\x00", testBody, "A: 1\r\nX: v\r\n\r\n", "A: 1\r\nX: v\r\n\r\n"},
		{"A: 1", "A\x001\x00", testBody, "A: 1\r\nX: v\r\n\r\n", "A: 1\r\nX: v\r\n\r\n"},
		{"", "", testBody, "X: v\r\n\r\n", "X: v\r\n\r\n"},
	} {
		for _, replaced := range []bool{false, true} {
			t.Run(fmt.Sprintf("%q %v", c.header, replaced), func(t *testing.T) {
				f := newFake(t)
				want := c.added
				f.answers['E'] = []packet{{'h', "X\x00v\x00"}, {'c', ""}}
				if replaced {
					want = c.replaced
					f.answers['E'] = []packet{{'h', "X\x00v\x00"}, {'b', "new\r\n"}, {'c', ""}}
				}
				m := testMessage()
				m.Header = []byte(c.header)
				verdict, _, err := check(t, f.start().filter(nil), m)
				if err != nil || string(verdict.Header) != want {
					t.Errorf("header %q, error %v, want %q", verdict.Header, err, want)
				}
				if fields, body := strings.Join(f.heard('L'), ""), strings.Join(f.heard('B'), ""); fields != c.fields || body != c.body {
					t.Errorf("told %q and %q, want %q and %q", fields, body, c.fields, c.body)
				}
			})
		}
	}
}
