package alert

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// drain takes all alerts that wait.
func drain(l *limiter) (alerts []Alert) {
	for {
		alert, found := l.pop()
		if !found {
			return alerts
		}
		alerts = append(alerts, alert)
	}
}

func TestFirstAtOnceThenACount(t *testing.T) {
	l := newLimiter()
	for i := range 5 {
		l.raise(start.Add(time.Duration(i)*time.Minute), Event{Kind: "limit", Identity: "uid:33", Text: fmt.Sprintf("the %dth", i+1), Count: i})
	}
	first := drain(l)
	if len(first) != 1 || first[0].Count != 1 || first[0].Text != "the 1th" || !first[0].Since.IsZero() {
		t.Fatalf("at first %+v, want one alert of the first event", first)
	}
	if next := l.next(); !next.Equal(start.Add(period)) {
		t.Errorf("next at %v, want after a period", next)
	}
	l.due(start.Add(period))
	later := drain(l)
	if len(later) != 1 || later[0].Count != 10 || later[0].Text != "10 more since the last alert, the latest: the 5th" ||
		!later[0].Since.Equal(start.Add(time.Minute)) || !later[0].Time.Equal(start.Add(4*time.Minute)) {
		t.Fatalf("later %+v, want one alert of 10 events", later)
	}
	l.due(start.Add(2 * period))
	if more := drain(l); more != nil || !l.next().IsZero() {
		t.Errorf("after a period of silence: %+v, next %v", more, l.next())
	}
	l.raise(start.Add(2*period), Event{Kind: "limit", Identity: "uid:33"})
	if again := drain(l); len(again) != 1 {
		t.Errorf("then %+v, want an alert at once", again)
	}
}

func TestOneMoreHasItsOwnWords(t *testing.T) {
	l := newLimiter()
	l.raise(start, Event{Kind: "relay", Identity: "main", Text: "down"})
	l.raise(start.Add(time.Minute), Event{Kind: "relay", Identity: "main", Text: "up"})
	drain(l)
	l.due(start.Add(period))
	if got := drain(l); len(got) != 1 || got[0].Text != "up" || got[0].Count != 1 {
		t.Errorf("%+v", got)
	}
}

func TestStormIsOneAlert(t *testing.T) {
	l := newLimiter()
	for i := range 500 {
		kind := "blocked"
		if i%5 == 0 {
			kind = "limit"
		}
		l.raise(start.Add(time.Duration(i)*time.Second/10), Event{Kind: kind, Identity: fmt.Sprint("uid:", i)})
	}
	if alerts := drain(l); len(alerts) != maxAlerts {
		t.Fatalf("%d alerts, want %d", len(alerts), maxAlerts)
	}
	if next := l.next(); !next.Equal(start.Add(period)) {
		t.Errorf("next at %v", next)
	}
	l.due(start.Add(period))
	alerts := drain(l)
	if len(alerts) != 1 {
		t.Fatalf("%d alerts, want one", len(alerts))
	}
	storm := alerts[0]
	if storm.Kind != Storm || storm.Count != 480 || storm.Counts["blocked"] != 384 || storm.Counts["limit"] != 96 ||
		storm.Text != "480 more events since the last alerts: 384 blocked (uid:21, uid:22, uid:23, …), 96 limit (uid:20, uid:25, uid:30, …)" {
		t.Errorf("%+v", storm)
	}
	if named := fmt.Sprint(storm.Identities); named != "map[blocked:[uid:21 uid:22 uid:23] limit:[uid:20 uid:25 uid:30]]" {
		t.Errorf("named %s", named)
	}
	if !storm.Since.Equal(start.Add(2*time.Second)) || !storm.Time.Equal(start.Add(49900*time.Millisecond)) {
		t.Errorf("from %v to %v", storm.Since, storm.Time)
	}
}

// One alert that comes too much is told late, in its own words.
func TestOneAlertIsNoStorm(t *testing.T) {
	l := newLimiter()
	for i := range maxAlerts + 1 {
		l.raise(start, Event{Kind: "drift", Identity: fmt.Sprint(i), Text: fmt.Sprint("drift ", i)})
	}
	if alerts := drain(l); len(alerts) != maxAlerts {
		t.Fatalf("%d alerts at once", len(alerts))
	}
	l.due(start.Add(period))
	if alerts := drain(l); len(alerts) != 1 || alerts[0].Text != fmt.Sprint("drift ", maxAlerts) {
		t.Errorf("later %+v", alerts)
	}
}

func TestFullQueueLosesNoCount(t *testing.T) {
	l := newLimiter()
	total := 0
	for i := range 3 * maxQueue {
		total++
		l.raise(start.Add(time.Duration(i)*period), Event{Kind: "spool", Identity: fmt.Sprint(i)})
	}
	counted := 0
	for range 3 {
		for _, alert := range drain(l) {
			counted += alert.Count
		}
		l.due(start.Add(time.Duration(4*maxQueue) * period))
	}
	if counted != total {
		t.Errorf("%d of %d counted", counted, total)
	}
}

// Whatever happens: no count is lost, at most 20 alerts are made in any period,
// the first of its like waits for a storm alone, and room is bounded.
func TestLimiterProperties(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 0))
		l, now := newLimiter(), start
		raised, told := 0, 0
		var made []time.Time
		take := func() {
			for _, alert := range drain(l) {
				told += alert.Count
				made = append(made, now)
			}
		}
		identities := []int{1, 30, 5000}[random.IntN(3)]
		pauses := []time.Duration{time.Millisecond, time.Second, time.Minute}[random.IntN(3)]
		for range 3000 {
			count := 1 + random.IntN(3)
			raised += count
			l.raise(now, Event{Kind: []string{"a", "b", "c"}[random.IntN(3)], Identity: fmt.Sprint(random.IntN(identities)), Count: count})
			if random.IntN(10) > 0 {
				take()
			}
			if next := l.next(); random.IntN(4) == 0 && next.After(now) {
				take()
				now = next
				l.due(now)
				take()
			} else {
				now = now.Add(time.Duration(random.Int64N(int64(pauses))))
			}
			if len(l.open) > maxKeys || len(l.queue) > maxQueue || len(l.left) > maxAlerts || len(l.order) != len(l.open) {
				t.Fatalf("seed %d: %d keys, %d in order, %d queued, %d latest", seed, len(l.open), len(l.order), len(l.queue), len(l.left))
			}
		}
		for i := maxAlerts; i < len(made); i++ {
			if made[i].Sub(made[i-maxAlerts]) < period-pauses*10 {
				t.Fatalf("seed %d: %d alerts in %v", seed, maxAlerts+1, made[i].Sub(made[i-maxAlerts]))
			}
		}
		l.flush(now)
		take()
		if raised != told {
			t.Fatalf("seed %d: %d events raised, %d told", seed, raised, told)
		}
	}
}

func TestEventsAreBounded(t *testing.T) {
	fields := map[string]string{}
	for i := range 100 {
		fields[fmt.Sprint(i)] = strings.Repeat("x", 5000)
	}
	long := strings.Repeat("ä", 5000)
	got := Event{Kind: "limit", Identity: long, Text: "\xff" + long, Fields: fields}.bounded(start)
	if len(got.Identity) > maxText || len(got.Text) > maxText || len(got.Fields) != maxFields {
		t.Errorf("identity %d, text %d octets, %d fields", len(got.Identity), len(got.Text), len(got.Fields))
	}
	if !strings.HasSuffix(got.Text, "ä…") || !strings.HasPrefix(got.Text, "\uFFFDä") {
		t.Errorf("text %q", got.Text)
	}
	for _, value := range got.Fields {
		if len(value) > maxText {
			t.Errorf("a field has %d octets", len(value))
		}
	}
	if got.Count != 1 || !got.Time.Equal(start) {
		t.Errorf("count %d at %v", got.Count, got.Time)
	}
}

func TestLongIdentitiesAreTheSame(t *testing.T) {
	l := newLimiter()
	for range 3 {
		l.raise(start, Event{Kind: "limit", Identity: strings.Repeat("x", 5000)})
	}
	if alerts := drain(l); len(alerts) != 1 {
		t.Errorf("%d alerts", len(alerts))
	}
}
