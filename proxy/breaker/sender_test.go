package breaker

import (
	"fmt"
	"testing"
	"time"
)

func TestPlainSender(t *testing.T) {
	tests := map[string]string{
		"alice@example.com":                        "alice@example.com",
		"Alice@Example.COM":                        "alice@example.com",
		"alice+shop@example.com":                   "alice@example.com",
		"alice.smith-jones@example.com":            "alice.smith-jones@example.com",
		"john1982@example.com":                     "john0@example.com",
		"bounces-1234-bob=example.org@lists.net":   "bounces@lists.net",
		"bounces+77-ab-bob=example.org@lists.net":  "bounces@lists.net",
		"bounce-0a1b2c3d4e5f@lists.net":            "bounce-0@lists.net",
		"bounce-mc.us1_123.456-7@lists.net":        "bounce-mc.us0_0.0-0@lists.net",
		"SRS0=HHH=TT=example.org=bob@forward.net":  "srs0@forward.net",
		"prvs=4723ab9=bob@example.org":             "prvs@example.org",
		"0100018c9f3e-5c2d0e1f-000000@ses.example": "0-0-0@ses.example",
		"deadbeef@example.com":                     "deadbeef@example.com",
		"user@sub1.example.com":                    "user@sub1.example.com",
		`"a@b=c"@example.com`:                      `"a@b@example.com`,
		"no-domain":                                "no-domain",
		"a+":                                       "a",
		"+b@c":                                     "@c",
		"":                                         "",
	}
	for path, want := range tests {
		var buffer [320]byte
		if got := string(plainSender(buffer[:0], path)); got != want {
			t.Errorf("%q counts as %q, want %q", path, got, want)
		}
	}
}

func FuzzPlainSender(f *testing.F) {
	f.Add("bounces-1234-bob=example.org@lists.net")
	f.Add("@@=+")
	f.Fuzz(func(t *testing.T, path string) {
		var buffer [320]byte
		if got := plainSender(buffer[:0], path); len(got) > len(buffer) || cap(got) != cap(buffer) {
			t.Fatalf("%d octets of %q", len(got), path)
		}
	})
}

// What a newsletter trips is stated: whatever its return paths, it has one
// sender; its body goes to many, and says so.
func TestNewsletters(t *testing.T) {
	tests := map[string]func(int) string{
		"one return path": func(int) string { return "news@lists.example" },
		"VERP, Mailman":   func(i int) string { return fmt.Sprintf("news-bounces+user%c=example%d.com@lists.example", 'a'+i%26, i) },
		"VERP, ezmlm": func(i int) string {
			return fmt.Sprintf("news-return-%d-reader%c=example.com@lists.example", i, 'a'+i%26)
		},
		"numbered": func(i int) string { return fmt.Sprintf("bounce-%d-77@lists.example", i) },
		"hexadecimal": func(i int) string {
			return fmt.Sprintf("bounce-%016x@lists.example", uint64(i+1)*0x9e3779b97f4a7c15>>1|1)
		},
		"sub-address": func(i int) string { return fmt.Sprintf("news+%c%d@lists.example", 'a'+i%26, i) },
	}
	for name, sender := range tests {
		t.Run(name, func(t *testing.T) {
			watch := New([]Rule{{Kind: Senders, Least: 20, Window: time.Hour, For: time.Hour}, {Kind: Identical, Report: true, Least: 200, Window: time.Hour, For: time.Hour}})
			var trips []Trip
			for i := range 500 {
				trips = append(trips, watch.Sent("uid:33", start.Add(time.Duration(i)*time.Second), Message{Sender: sender(i), Recipients: 1, Body: 9})...)
			}
			if len(trips) != 1 || trips[0].Kind != Identical || !trips[0].Report {
				t.Errorf("trips %v, want one report of identical bodies", trips)
			}
		})
	}
}

// Forged senders are many, whatever they have in common.
func TestForgedSenders(t *testing.T) {
	watch := New([]Rule{{Kind: Senders, Least: 20, Window: time.Hour, For: time.Hour}})
	names := []string{"anna", "bert", "carl", "dora", "emil", "fritz", "gerd", "hans", "ida", "jan", "karl"}
	for i := range 21 {
		trips := watch.Sent("uid:33", start, Message{Sender: fmt.Sprintf("%s%d@mail%d.example", names[i%11], i, i/11), Recipients: 1})
		if tripped := len(trips) == 1; tripped != (i == 20) {
			t.Fatalf("sender %d: trips %v", i+1, trips)
		}
	}
}
