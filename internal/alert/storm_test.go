package alert

import (
	"fmt"
	"strings"
	"testing"
)

// gather makes a storm of events.
func gather(events ...Event) Alert {
	l := newLimiter()
	for _, event := range events {
		l.collect(start, start, event.bounded(start).alert())
	}
	return l.storm.alert()
}

func TestStormNamesTheFirst(t *testing.T) {
	tests := []struct {
		name   string
		events []Event
		text   string
		named  string
	}{
		{
			"one of a kind among many of another",
			[]Event{
				{Kind: "breaker", Identity: "uid:1"}, {Kind: "breaker", Identity: "uid:2", Count: 7}, {Kind: "suspension", Identity: "uid:33"},
				{Kind: "breaker", Identity: "uid:3"}, {Kind: "breaker", Identity: "uid:4"},
			},
			"11 more events since the last alerts: 10 breaker (uid:1, uid:2, uid:3, …), 1 suspension (uid:33)",
			"map[breaker:[uid:1 uid:2 uid:3] suspension:[uid:33]]",
		}, {
			"the same again, and no more than are named",
			[]Event{{Kind: "limit", Identity: "uid:1"}, {Kind: "limit", Identity: "uid:1"}, {Kind: "limit", Identity: "uid:2"}, {Kind: "limit", Identity: "uid:3"}, {Kind: "limit", Identity: "uid:2"}},
			"5 more events since the last alerts: 5 limit (uid:1, uid:2, uid:3)",
			"map[limit:[uid:1 uid:2 uid:3]]",
		}, {
			"about nobody",
			[]Event{{Kind: "drift"}, {Kind: "drift"}},
			"2 more events since the last alerts: 2 drift",
			"map[]",
		},
	}
	for _, test := range tests {
		got := gather(test.events...)
		if named := fmt.Sprint(got.Identities); got.Kind != Storm || got.Text != test.text || named != test.named {
			t.Errorf("%s: %q, named %s", test.name, got.Text, named)
		}
	}
}

// A long name keeps the others' out neither of the text nor of the list.
func TestStormIsBounded(t *testing.T) {
	var events []Event
	for _, kind := range []string{"blocked", "limit", "login"} {
		for i := range 50 {
			events = append(events, Event{Kind: kind, Identity: fmt.Sprint(i, strings.Repeat("ä", 5000))})
		}
	}
	got := gather(events...)
	for kind := range got.Counts {
		if len(got.Identities[kind]) != maxNamed || !strings.Contains(got.Text, "50 "+kind+" (0ä") {
			t.Errorf("%s: %d named, in %q", kind, len(got.Identities[kind]), got.Text)
		}
		for _, name := range got.Identities[kind] {
			if len(name) > maxText {
				t.Errorf("a name has %d octets", len(name))
			}
		}
	}
	if len(got.Text) > maxText || len(got.Counts) != 3 {
		t.Errorf("text of %d octets, %v", len(got.Text), got.Counts)
	}
}
