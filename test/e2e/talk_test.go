package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/textproto"
	"regexp"
	"testing"
	"time"
)

// talk is a dialogue in clear with the alternate listener, for what no client
// program can be made to do.
type talk struct {
	t    testing.TB
	conn io.Closer
	text *textproto.Conn
}

// talk begins a dialogue as the web site's user.
func (b *bed) talk(t testing.TB) *talk { return b.talkAs(t, siteUID) }

func (b *bed) talkAs(t testing.TB, uid uint32) *talk {
	t.Helper()
	conn, err := b.Host.DialAs(t.Context(), uid, netip.MustParseAddrPort("127.0.0.1:2525"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	k := &talk{t, conn, textproto.NewConn(conn)}
	k.must(220, "")
	k.must(250, "EHLO client.example")
	return k
}

// say sends a line, unless it is empty, and reads the reply.
func (k *talk) say(format string, args ...any) reply {
	k.t.Helper()
	if format != "" {
		if err := k.text.PrintfLine(format, args...); err != nil {
			k.t.Fatal(err)
		}
	}
	code, text, err := k.text.ReadResponse(0)
	var refused *textproto.Error
	if err != nil && !errors.As(err, &refused) {
		k.t.Fatalf("reading the reply to %q: %v", fmt.Sprintf(format, args...), err)
	}
	return reply{code, text}
}

// must says what has to have this reply.
func (k *talk) must(code int, format string, args ...any) reply {
	k.t.Helper()
	got := k.say(format, args...)
	if got.code != code {
		k.t.Fatalf("%q had the reply %+v, want %d", fmt.Sprintf(format, args...), got, code)
	}
	return got
}

// send submits a letter and returns the first refusal, or the last reply.
func (k *talk) send(l letter, from string, to ...string) reply {
	k.t.Helper()
	if got := k.say("MAIL FROM:<%s>", from); got.code != 250 {
		return got
	}
	accepted, refused := 0, reply{}
	for _, address := range to {
		if got := k.say("RCPT TO:<%s>", address); got.code == 250 {
			accepted++
		} else {
			refused = got
		}
	}
	if accepted == 0 {
		return refused
	}
	if got := k.say("DATA"); got.code != 354 {
		return got
	}
	k.body(l)
	return k.say("")
}

// body sends the letter with its dots doubled, and the end of data.
func (k *talk) body(l letter) {
	k.t.Helper()
	w := k.text.DotWriter()
	_, err := w.Write(l.text)
	if err = errors.Join(err, w.Close()); err != nil {
		k.t.Fatal(err)
	}
}

func (k *talk) close() { _ = k.conn.Close() }

var txnForm = regexp.MustCompile(`\[smtpwall ([0-9A-Z]{26})\]$`)

// txn is the id that a reply carries.
func (r reply) txn(t testing.TB) string {
	t.Helper()
	found := txnForm.FindStringSubmatch(r.text)
	if found == nil {
		t.Fatalf("the reply %+v carries no transaction id", r)
	}
	return found[1]
}
