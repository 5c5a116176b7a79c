package audit

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// fullEvent has a value in every field.
func fullEvent() Event {
	return Event{
		Time: time.Date(2026, 11, 21, 20, 59, 1, 5e6, time.UTC), Kind: KindTransaction,
		Session: "01J9S", Txn: "01J9T", Listener: "submission",
		PeerUID: KnownUID(0), PeerUser: "root", PeerPID: 4711, PeerExe: "/usr/bin/php8.2",
		PeerUnit: "php8.2-fpm.service", PeerContainer: "d4f1",
		Source:      netip.MustParseAddrPort("127.0.0.1:50000"),
		Destination: netip.MustParseAddrPort("[2001:db8::1]:25"),
		OrigDst:     netip.MustParseAddrPort("192.0.2.7:587"),
		TLSVersion:  "TLS 1.3", TLSName: "smtp.example.com", AuthID: "webshop", ClientCertificate: "sha256:00ff",
		ReversePath: "shop@example.com",
		Recipients:  []Recipient{{"a@example.net", 250}, {"b@example.net", 550}},
		RcptCount:   2, Size: 4096,
		Decision: "allow", Reason: "rule", Rule: "sites", Relay: "main",
		Identity: "uid:0", Limit: "100 messages/hour", Until: time.Date(2026, 1, 2, 4, 5, 6, 0, time.UTC), By: "root",
		RelayReply: "Ok: queued as 1234", ReplyCode: 250, EnhancedCode: "2.0.0",
		Custody: CustodyRelay, Attempt: 2, Next: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC), PossibleDuplicate: true, Outcome: OutcomeBlocked, Count: 3,
		Duration: 12345 * time.Microsecond, Error: "none",
	}
}

func TestEventRoundTrip(t *testing.T) {
	want := fullEvent()
	for i := range reflect.TypeFor[Event]().NumField() {
		if reflect.ValueOf(want).Field(i).IsZero() {
			t.Errorf("fullEvent leaves %s empty: the test would miss it", reflect.TypeFor[Event]().Field(i).Name)
		}
	}
	line := want.AppendJSON(nil)
	var got Event
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("decoding %s: %v", line, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("decoded\n%+v\nwant\n%+v", got, want)
	}
}

func TestEventGolden(t *testing.T) {
	got := string((&Event{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.FixedZone("", 3600)), Kind: KindAttempt,
		Destination: netip.MustParseAddrPort("192.0.2.1:25"), Outcome: OutcomeBlocked, Count: 2,
		Duration: 1500 * time.Microsecond,
	}).AppendJSON(nil))
	want := `{"time":"2026-01-02T02:04:05.678Z","kind":"attempt","destination":"192.0.2.1:25",` +
		`"outcome":"blocked","count":2,"duration_ms":1.5}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestUnknownUIDIsNotRoot(t *testing.T) {
	unknown, root := Event{Kind: KindAttempt}, Event{Kind: KindAttempt, PeerUID: KnownUID(0)}
	if line := string(unknown.AppendJSON(nil)); strings.Contains(line, "peer_uid") {
		t.Errorf("an unknown uid is written: %s", line)
	}
	if line := string(root.AppendJSON(nil)); !strings.Contains(line, `"peer_uid":0`) {
		t.Errorf("root's uid is not written: %s", line)
	}
	var e Event
	if err := json.Unmarshal([]byte(`{"peer_uid":null}`), &e); err != nil || e.PeerUID != (UID{}) {
		t.Errorf("null is %v, %v; want unknown", e.PeerUID, err)
	}
	for _, bad := range []string{`-1`, `4294967296`, `"0"`, `1.5`} {
		if err := json.Unmarshal([]byte(`{"peer_uid":`+bad+`}`), &e); err == nil {
			t.Errorf("peer_uid %s is taken for %v", bad, e.PeerUID)
		}
	}
}

// TestTagsAreLogfields holds the struct's tags, which decode, to the keys that
// the encoder writes: each key of a full event must be a tag and the reverse.
func TestTagsAreLogfields(t *testing.T) {
	keys := logfieldsKeys(t)
	full := fullEvent()
	var wire map[string]json.RawMessage
	if err := json.Unmarshal(full.AppendJSON(nil), &wire); err != nil {
		t.Fatal(err)
	}
	for key := range wire {
		if !keys[key] {
			t.Errorf("key %q is not in internal/logfields", key)
		}
	}
	event := reflect.TypeFor[Event]()
	for i := range event.NumField() {
		tag, _, _ := strings.Cut(event.Field(i).Tag.Get("json"), ",")
		if tag == "-" {
			tag = "duration_ms"
		}
		if _, written := wire[tag]; !written {
			t.Errorf("field %s: key %q is not written", event.Field(i).Name, tag)
		}
	}
}

func logfieldsKeys(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../internal/logfields/fields.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok {
			key, _ := strconv.Unquote(lit.Value)
			keys[key] = true
		}
		return true
	})
	return keys
}

func TestAppendString(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain", `"plain"`},
		{`a"b\c`, `"a\"b\\c"`},
		{"a\r\nb\tc", `"a\r\nb\tc"`},
		{"\x00\x1b[31m\x7f", `"\u0000\u001b[31m\u007f"`},
		{"ü€😀", `"ü€😀"`},
		{"\u009b31m", `"\u009b31m"`},
		{"a\u202eb\u2066c\u2028d\ufeff", `"a\u202eb\u2066c\u2028d\ufeff"`},
		{"a\xffb\xc3", "\"a\ufffdb\ufffd\""},
		{"\xed\xa0\x80", "\"\ufffd\ufffd\ufffd\""}, // a surrogate
	} {
		if got := string(appendString(nil, c.in)); got != c.want {
			t.Errorf("appendString(%q) = %s, want %s", c.in, got, c.want)
		}
	}
}

func TestBounds(t *testing.T) {
	e := Event{Kind: KindTransaction, RelayReply: strings.Repeat("é", MaxText), RcptCount: 5000}
	for range 5000 {
		e.Recipients = append(e.Recipients, Recipient{Address: strings.Repeat("\x01", 5000), ReplyCode: 250})
	}
	line := e.AppendJSON(nil)
	if len(line) >= maxLine {
		t.Errorf("the line has %d octets, the reader takes %d", len(line), maxLine)
	}
	var got Event
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Recipients) != MaxRecipients || got.RcptCount != 5000 {
		t.Errorf("%d recipients of %d, want %d of 5000", len(got.Recipients), got.RcptCount, MaxRecipients)
	}
	if want := strings.Repeat("é", MaxText/2) + ellipsis; got.RelayReply != want {
		t.Errorf("relay_reply is cut to %d octets, want %d", len(got.RelayReply), len(want))
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\x00\u202e\xff\"\\")
	f.Add(strings.Repeat("€", MaxText))
	f.Fuzz(func(t *testing.T, s string) {
		out := appendString(nil, s)
		if !utf8.Valid(out) {
			t.Errorf("not UTF-8: %q", out)
		}
		for _, r := range string(out) {
			if unicode.IsControl(r) || steers(r) && r >= utf8.RuneSelf {
				t.Errorf("raw %U in %q", r, out)
			}
		}
		var back string
		if err := json.Unmarshal(out, &back); err != nil {
			t.Fatalf("not JSON: %v: %q", err, out)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); len(s) <= MaxText && utf8.ValidString(s) && back != want {
			t.Errorf("came back as %q, want %q", back, want)
		}
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	e := fullEvent()
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = e.AppendJSON(buf[:0])
	}
}
