package breaker

import (
	"fmt"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

func TestTrips(t *testing.T) {
	hour := time.Hour
	tests := map[string]struct {
		rule Rule
		do   func(*Watch, func() time.Time) []Trip
		want string
	}{
		"refused": {
			Rule{Kind: Refused, Share: 0.5, Least: 20, Window: hour, For: hour},
			func(w *Watch, now func() time.Time) []Trip {
				w.Results("uid:33", now(), 10, 5)
				return w.Results("uid:33", now(), 0, 5)
			},
			"relays refused 10 of 20 recipients for good within 1 hour, 50 % or more",
		},
		"senders": {
			Rule{Kind: Senders, Least: 20, Window: hour, For: hour},
			func(w *Watch, now func() time.Time) (trips []Trip) {
				for i := range 21 {
					trips = append(trips, w.Sent("uid:33", now(), Message{Sender: fmt.Sprintf("%c@example.com", 'a'+i), Recipients: 1})...)
				}
				return trips
			},
			"21 different senders within 1 hour, more than 20",
		},
		"identical": {
			Rule{Kind: Identical, Least: 200, Window: hour, For: hour},
			func(w *Watch, now func() time.Time) []Trip {
				w.Sent("uid:33", now(), Message{Sender: "a@b", Recipients: 200, Body: 7})
				return w.Sent("uid:33", now(), Message{Sender: "a@b", Recipients: 1, Body: 7})
			},
			"one body to 201 recipients within 1 hour, more than 200",
		},
		"burst": {
			Rule{Kind: Burst, Times: 10, Least: 100, Window: 10 * time.Minute, For: hour},
			func(w *Watch, now func() time.Time) []Trip {
				at := now()
				for i := range 3 {
					w.Sent("uid:33", at.Add(time.Duration(i)*10*time.Minute), Message{Recipients: 12})
				}
				return w.Sent("uid:33", at.Add(40*time.Minute), Message{Recipients: 121})
			},
			"121 recipients within 10 minutes, more than 10 times the usual 12",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			at := start
			trips := test.do(New([]Rule{test.rule}), func() time.Time { at = at.Add(time.Second); return at })
			if len(trips) != 1 {
				t.Fatalf("%d trips, want one: %v", len(trips), trips)
			}
			if got := trips[0]; got.Why != test.want || got.Kind != test.rule.Kind || got.Identity != "uid:33" || got.For != hour || got.Report {
				t.Errorf("got %+v, want why %q", got, test.want)
			}
		})
	}
}
