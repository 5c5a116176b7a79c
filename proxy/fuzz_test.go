package proxy

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	replyLine = regexp.MustCompile(`^[2-5][0-9][0-9][ -][^\r\n\x00-\x1f\x7f]*$`)
	// Only the reply to the end of data is positive and has an id.
	takenLine = regexp.MustCompile(`^250 .*\[smtpwall [0-9A-Z]{26}\]$`)
)

// FuzzSession feeds whole sessions with arbitrary octets. Whatever they are, the
// session ends without a panic, all it says is well-formed lines, and 250 to the
// end of data was said once for each message that the relay has.
func FuzzSession(f *testing.F) {
	files, err := filepath.Glob("testdata/dialogue/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(clientSide(string(text)))
	}
	f.Add([]byte(whole + whole + "QUIT\r\n"))
	f.Add([]byte(toRcpt + "BDAT 6\r\na: b\r\nBDAT 0 LAST\r\n" + toRcpt[len("EHLO client.test\r\n"):] + "BDAT 3 LAST\r\nx\r\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		b := newStand(t, map[string]string{"max_message": "5000", "max_errors": "10"})
		conn := b.dial(t).(*net.TCPConn)
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		go func() { // ends with the connection
			_, _ = conn.Write(input)
			_ = conn.CloseWrite()
		}()
		said, err := io.ReadAll(conn)
		if err != nil && len(said) == 0 {
			t.Fatal(err)
		}
		taken := 0
		for line := range bytes.Lines(said) {
			text, ok := strings.CutSuffix(string(line), "\r\n")
			if !ok || !replyLine.MatchString(text) {
				t.Fatalf("said %q", line)
			}
			if takenLine.MatchString(text) {
				taken++
			}
		}
		for _, event := range b.finish(t) {
			if event.Error == "internal error" {
				t.Fatal("the session panicked")
			}
		}
		if has := len(b.relay.Messages()); taken > has {
			t.Fatalf("%d messages were taken, the relay has %d", taken, has)
		}
	})
}

// clientSide is what the client of a dialogue sends.
func clientSide(dialogue string) []byte {
	var sent []byte
	for line := range strings.Lines(dialogue) {
		line = strings.TrimSuffix(line, "\n")
		if text, ok := strings.CutPrefix(line, "C:"); ok {
			sent = append(sent, unescape(strings.TrimPrefix(text, " "))+"\r\n"...)
		} else if text, ok := strings.CutPrefix(line, "c: "); ok {
			sent = append(sent, unescape(text)...)
		}
	}
	return sent
}
