package e2e_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// Envelope of most messages.
const (
	sender    = "orders@shop.example"
	recipient = "customer@example.net"
)

const markerField = "X-Marker: "

// letter is a message as a client sends it. It begins with a field that no
// other message has, which is where the comparison starts.
type letter struct {
	marker string
	text   []byte // lines end in CRLF
}

// newLetter makes a message of everything that tends to get lost: dots, eight
// bits, long lines, blanks.
func newLetter() letter {
	return writeLetter(strings.Join([]string{
		".", "..", ".hidden", "a line.", "...", "",
		"Grüße, and eight bits that are no UTF-8: \xe4\xf6\xfc\xff",
		strings.Repeat("x", 998),
		strings.Repeat("y", 1999),
		". " + strings.Repeat("z", 70),
		"blanks at the end  \t",
		"", "",
		"From the start of a line",
		".",
		"end", "",
	}, "\r\n"))
}

// bigLetter has at least the given number of octets.
func bigLetter(size int) letter {
	line := []byte(strings.Repeat("0123456789abcdef", 4)[:62] + "\r\n")
	return writeLetter(string(bytes.Repeat(line, size/len(line)+1)))
}

func writeLetter(body string) letter {
	marker := rand.Text()
	return letter{marker, []byte(markerField + marker + "\r\n" +
		"From: Shop <" + sender + ">\r\n" +
		"To: " + recipient + "\r\n" +
		"Subject: an order\r\n" +
		"Date: Sat, 21 Nov 2026 21:00:00 +0000\r\n" +
		"Message-ID: <" + strings.ToLower(marker) + "@shop.example>\r\n" +
		"MIME-Version: 1.0\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\n" +
		"Content-Transfer-Encoding: 8bit\r\n" +
		"\r\n" + body)}
}

// unix is the letter with the line ends of a file.
func (l letter) unix() []byte { return bytes.ReplaceAll(l.text, []byte("\r\n"), []byte("\n")) }

// compare holds what arrived to the letter and returns what stands before it.
func (l letter) compare(t testing.TB, arrived []byte) (head string) {
	t.Helper()
	at := bytes.Index(arrived, []byte(markerField+l.marker))
	if at < 0 {
		t.Fatalf("the message has not arrived whole: %.300q", arrived)
	}
	got := arrived[at:]
	if bytes.Equal(got, l.text) {
		return string(arrived[:at])
	}
	same := 0
	for same < min(len(got), len(l.text)) && got[same] == l.text[same] {
		same++
	}
	t.Errorf("arrived with digest %x, sent %x; %d octets of %d; they differ at %d:\n got %.80q\nwant %.80q",
		sha256.Sum256(got), sha256.Sum256(l.text), len(got), len(l.text), same, got[same:], l.text[same:])
	return string(arrived[:at])
}

// traceForm is our Received field.
var traceForm = regexp.MustCompile(`^Received: from (\S+) \(([a-z ]+)\)\r\n` +
	`\tby ` + regexp.QuoteMeta(hostName) + ` \(smtpwall\) with ([A-Z0-9]+) id ([0-9A-Z]{26});\r\n` +
	`\t\w{3}, \d{2} \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\r\n$`)

// trace is what our Received field says.
type trace struct{ class, protocol string }

// check holds the field to what it should say and returns the transaction's id.
func (want trace) check(t testing.TB, field string) (id string) {
	t.Helper()
	found := traceForm.FindStringSubmatch(field)
	if found == nil {
		t.Fatalf("this is no Received field of ours: %q", field)
	}
	if got := (trace{found[2], found[3]}); got != want {
		t.Errorf("Received says %+v, want %+v", got, want)
	}
	for _, name := range []string{"www-data", accountName, relayUser, fmt.Sprint("uid ", siteUID)} {
		if strings.Contains(field, name) {
			t.Errorf("Received names %q: %q", name, field)
		}
	}
	return found[4]
}
