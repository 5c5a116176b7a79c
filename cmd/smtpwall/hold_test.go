package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/spool"
)

// held are messages in hold, each for another reason, which came an hour ago.
func held() *fakeProxy {
	p := &fakeProxy{text: map[string]string{}}
	for _, why := range []string{spool.HoldNoRelay, spool.HoldLimit, spool.HoldSuspended, spool.HoldFilter, spool.HoldPolicy} {
		id := "H" + strings.ToUpper(strings.ReplaceAll(why, "-", ""))
		p.items = append(p.items, spool.Item{
			Entry: spool.Entry{ID: id, Time: time.Now().Add(-time.Hour)}, State: spool.Hold,
			Progress: spool.Progress{Hold: why, Reason: "because of " + why},
		})
		p.text[id] = "Subject: x\r\n\r\n"
	}
	return p
}

// What is in hold says why, and when it is given up: what waits for a first
// relay never is.
func TestHoldTellsWhyAndUntilWhen(t *testing.T) {
	p := held()
	config := p.serve(t)
	status, out, _ := run(t, "", "hold", "list", "--config", config)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if status != exitDone || len(lines) != 6 || !strings.Contains(lines[0], "  EXPIRES  ") {
		t.Fatalf("%d, %s", status, out)
	}
	for _, line := range lines[1:] {
		waits := strings.Contains(line, spool.HoldNoRelay)
		if strings.Contains(line, "  in 29d  ") == waits || !strings.Contains(line, ": because of ") {
			t.Errorf("%q", line)
		}
	}
	status, out, _ = run(t, "", "hold", "show", "HLIMIT", "--config", config)
	if status != exitDone || !strings.Contains(out, "hold (limit)\n") || !strings.Contains(out, "\nexpires:       "+p.items[1].Time.Add(30*24*time.Hour).Local().Format(time.DateOnly)) {
		t.Errorf("%d, %s", status, out)
	}
	if status, out, _ = run(t, "", "hold", "show", "HNORELAY", "--config", config); status != exitDone || strings.Contains(out, "expires:") {
		t.Errorf("%d, %s", status, out)
	}
	status, out, _ = run(t, "", "hold", "list", "--json", "--config", config)
	withEnd := 0
	for line := range strings.Lines(out) {
		var item listed
		if err := json.Unmarshal([]byte(line), &item); err != nil {
			t.Fatal(err)
		}
		if !item.Expires.IsZero() {
			withEnd++
			if !item.Expires.Equal(item.Time.Add(30 * 24 * time.Hour)) {
				t.Errorf("%s: %v", item.ID, item.Expires)
			}
		}
	}
	if status != exitDone || withEnd != 4 {
		t.Errorf("%d, %d of 5 expire", status, withEnd)
	}
}

// The reason chooses: what a limit holds is released together.
func TestReleaseByReason(t *testing.T) {
	p := held()
	config := p.serve(t)
	status, _, err := run(t, "", "hold", "release", "--reason", "of LIMIT", "--config", config)
	if status != exitDone || !strings.Contains(err, "1 message released, due at once") || strings.Join(p.told(), " ") != "release HLIMIT" {
		t.Errorf("%d, %q", status, err)
	}
}
