package filter_test

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/filter"
)

const longestField = 65535 - 256 // octets

// libmilter is what most filters stand on. Here one of a few lines does what the
// message says.
func TestLibmilter(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "milter.sock")
	f := startDaemon(t, socket, "/usr/bin/python3", "testdata/obedient.py", socket).filter()
	const body = "one\r\n\r\n.two\r\n"
	for _, c := range []struct {
		name   string
		orders []string
		action filter.Action
		reply  string   // where it refuses
		has    []string // lines of the message, without their ends
		lacks  []string
	}{
		{name: "nothing", has: []string{"Subject: a letter", " that is folded"}},
		{name: "tell", orders: []string{"tell"}, has: []string{
			"X-Client: localhost 127.0.0.1 host.example.com localhost", "X-Sender: <a@example.com> 01FILTER -",
			"X-Recipients: <b@example.net>", fmt.Sprintf("X-Body: %x", sha256.Sum256([]byte(body))),
		}},
		{name: "add", orders: []string{"add X-New one"}, has: []string{"X-New: one", "X-Do: add X-New one"}},
		{name: "insert", orders: []string{"insert 0 X-New top"}, has: []string{"X-New: top"}},
		{name: "change", orders: []string{"change 1 Subject other"}, has: []string{"Subject: other"}, lacks: []string{"Subject: a letter", " that is folded"}},
		{name: "delete", orders: []string{"change 1 Subject "}, lacks: []string{"Subject: a letter", " that is folded"}},
		{name: "body", orders: []string{"body three|four"}, has: []string{"three", "four"}, lacks: []string{"one", ".two"}},
		{name: "progress", orders: []string{"progress 100", "add X-New late"}, has: []string{"X-New: late"}},
		{name: "envelope", orders: []string{"envelope <x@example.org>", "add X-New v"}, has: []string{"X-New: v"}},
		{name: "quarantine", orders: []string{"quarantine looks odd", "add X-New v"}, action: filter.Quarantine, has: []string{"X-New: v"}},
		{name: "accept early", orders: []string{"early ACCEPT", "add X-New v"}, lacks: []string{"X-New: v"}},
		{name: "discard early", orders: []string{"early DISCARD"}, action: filter.Discard},
		{name: "discard", orders: []string{"end DISCARD"}, action: filter.Discard},
		{name: "reject", orders: []string{"end REJECT"}, action: filter.Reject, reply: `550 5.7.1 message refused by filter "under-test"`},
		{name: "tempfail", orders: []string{"early TEMPFAIL"}, action: filter.Defer, reply: `451 4.7.1 message deferred by filter "under-test", try again later`},
		{name: "reply", orders: []string{"end reply 554 5.6.9 not 100%% good"}, action: filter.Reject, reply: "554 5.6.9 not 100% good"},
		{name: "reply in lines", orders: []string{"end reply 452 4.2.2 one|two|three"}, action: filter.Defer, reply: "452 4.2.2 one two three"},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := plainHeader
			for _, order := range c.orders {
				header += "X-Do: " + order + "\r\n"
			}
			verdict, message := check(t, f, header, body)
			if verdict.Action != c.action || c.reply != "" && verdict.Reply.String() != c.reply {
				t.Fatalf("%v %v, want %v %s", verdict.Action, verdict.Reply, c.action, c.reply)
			}
			for _, line := range c.has {
				if !strings.Contains("\r\n"+message, "\r\n"+line+"\r\n") {
					t.Errorf("no line %q in\n%s", line, message)
				}
			}
			for _, line := range c.lacks {
				if strings.Contains("\r\n"+message, "\r\n"+line+"\r\n") {
					t.Errorf("line %q in\n%s", line, message)
				}
			}
		})
	}
	// The longest field that a packet of libmilter holds; package filter refuses
	// longer ones for good, rather than have libmilter hang up at each try.
	t.Run("long field", func(t *testing.T) {
		verdict, message := check(t, f, plainHeader+"X-Long: "+strings.Repeat("x", longestField-len("X-Long: \r\n"))+"\r\nX-Do: add X-New v\r\n", body)
		if verdict.Action != filter.Accept || !strings.Contains(message, "\r\nX-New: v\r\n") {
			t.Errorf("%v %v", verdict.Action, verdict.Reply)
		}
		verdict, _ = check(t, f, plainHeader+"X-Long: "+strings.Repeat("x", longestField)+"\r\n", body)
		if verdict.Action != filter.Reject {
			t.Errorf("%v %v", verdict.Action, verdict.Reply)
		}
	})
	t.Run("large body", func(t *testing.T) {
		verdict, message := check(t, f, plainHeader+"X-Do: fill 64\r\n", body)
		_, filled, _ := strings.Cut(message, "\r\n\r\n")
		if want := strings.Repeat("0123456789abcd\r\n", 64*4096); filled != want || verdict.BodySize != int64(len(want)) {
			t.Errorf("%d octets, want %d", len(filled), len(want))
		}
	})
}
