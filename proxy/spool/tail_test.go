package spool

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// TestTailBounded: however often a message is tried, and whatever is said of
// however many recipients, its file stays short and says what was last.
func TestTailBounded(t *testing.T) {
	for _, rcpts := range []int{1, 100, 10_000} {
		t.Run(fmt.Sprint(rcpts), func(t *testing.T) {
			s := open(t, t.TempDir(), Options{})
			e := sampleEntry()
			e.Envelope.Recipients = nil
			p := Progress{Reason: strings.Repeat("x", 5000)}
			for i := range rcpts {
				e.Envelope.Recipients = append(e.Envelope.Recipients, smtp.Recipient{Address: fmt.Sprintf("r%d@example.net", i)})
				p.Rest = append(p.Rest, Due{Rcpt: i, Reply: fmt.Sprint(i, strings.Repeat(" y", 5000)), Failed: true})
			}
			id := put(t, s, e, "no end of line")
			first, err := s.Show(id)
			if err != nil {
				t.Fatal(err)
			}
			line, err := p.encode()
			if err != nil || len(line) > maxReplies+maxText+200+50*rcpts {
				t.Fatalf("a line of %d bytes, %v", len(line), err)
			}
			for p.Attempts = 1; p.Attempts < 10+500/rcpts; p.Attempts++ {
				if err := s.Settle(id, p, queued[p.Attempts%2]); err != nil {
					t.Fatal(err)
				}
				item, err := s.Show(id)
				if err != nil || item.Progress.Attempts != p.Attempts || item.Progress.PossibleDuplicate || len(item.Recipients()) != rcpts {
					t.Fatalf("after %d: %+v, %v", p.Attempts, item.Progress, err)
				}
				if tail := item.Stored - first.Stored; tail > longTail+3*int64(len(line)) {
					t.Fatalf("after %d a tail of %d bytes, of lines of %d", p.Attempts, tail, len(line))
				}
				if used(s) != blocks(item.Stored) || s.UsedBy("uid:33") != used(s) {
					t.Fatalf("%d bytes counted, %d stored", used(s), item.Stored)
				}
			}
			if _, text := get(t, s, id); text != "no end of line" {
				t.Errorf("the message is %q", text)
			}
		})
	}
}

// TestReplies: each recipient keeps the words about it, shortened, as long as
// there is room for them.
func TestReplies(t *testing.T) {
	long := strings.Repeat("450 later ", 100)
	for name, tt := range map[string]struct{ said, kept []string }{
		"same":           {[]string{"450 a", "450 a", "450 a"}, []string{"450 a", "450 a", "450 a"}},
		"some the same":  {[]string{"450 a", "", "450 a", "450 b", "450 b"}, []string{"450 a", "", "450 a", "450 b", "450 b"}},
		"long":           {[]string{long, long, long + "x"}, []string{long[:maxReply], long[:maxReply], long[:maxReply]}},
		"none":           {[]string{"", ""}, []string{"", ""}},
		"no recipient":   {[]string{}, []string{}},
		"all recipients": {nil, nil},
	} {
		var p Progress
		for i, reply := range tt.said {
			p.Rest = append(p.Rest, Due{Rcpt: i, Reply: reply, Failed: i == 1})
		}
		if tt.said != nil && p.Rest == nil {
			p.Rest = []Due{}
		}
		line, err := p.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, ok := lastLine(line)
		for i := range p.Rest {
			p.Rest[i].Reply = tt.kept[i]
		}
		if !ok || !reflect.DeepEqual(got.Rest, p.Rest) || strings.Count(string(line), "later") > maxReply/10 {
			t.Errorf("%s: %s became %+v", name, line, got.Rest)
		}
	}
}

// TestTailTooLong: what somebody has put behind a message is not read into
// memory, however much it is.
func TestTailTooLong(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	id := put(t, s, sampleEntry(), "x")
	if err := os.Truncate(s.queuePath(id, Hold), 1<<40); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Show(id); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

// TestTailOfVersionBefore: a tail that is too long from the start becomes short.
func TestTailOfVersionBefore(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	id := put(t, s, sampleEntry(), "x")
	line, err := Progress{Attempts: 1}.encode()
	if err != nil {
		t.Fatal(err)
	}
	change(t, s.queuePath(id, Hold), func(b []byte) []byte { return append(b, strings.Repeat(string(line), 10_000)...) })
	s.Close()
	s = open(t, s.dir, Options{})
	if err := s.Settle(id, Progress{Attempts: 2}, Deferred); err != nil {
		t.Fatal(err)
	}
	item, text := get(t, s, id)
	if item.Progress.Attempts != 2 || text != "x" || item.Stored > blockSize || used(s) != blockSize {
		t.Errorf("%+v, %q, %d bytes counted", item, text, used(s))
	}
}
