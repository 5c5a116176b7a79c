package breaker

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// The models remember everything and count by looking through all of it.

// happening is what one call told of.
type happening struct {
	at                time.Duration // since the first call
	sender            string
	body              uint64
	recipients        int64
	accepted, refused int64
}

// model is one breaker on one identity.
type model struct {
	rule      Rule
	all       []happening
	since     int           // first one that was not part of a trip
	quiet     time.Duration // until
	sinceBody map[uint64]int
}

// slot is the number of a stretch of time.
func slotOf(at, length time.Duration) int64 { return int64(at / length) }

// within sums what happened in the latest n parts of a window cut into so many.
func (m *model) within(from int, now time.Duration, cut, latest int64, value func(happening) int64) int64 {
	length, sum := m.rule.Window/time.Duration(cut), int64(0)
	for _, h := range m.all[from:] {
		if slotOf(now, length)-slotOf(h.at, length) < latest {
			sum += value(h)
		}
	}
	return sum
}

// trips adds one and says whether the breaker should trip.
func (m *model) trips(h happening) bool {
	m.all = append(m.all, h)
	if h.at < m.quiet || !m.holds(h) {
		return false
	}
	m.since = len(m.all)
	m.sinceBody[h.body] = len(m.all)
	m.quiet = (h.at + m.rule.For + tick - 1) / tick * tick
	return true
}

func (m *model) holds(h happening) bool {
	switch m.rule.Kind {
	case Refused:
		bad := m.within(m.since, h.at, parts, parts, func(h happening) int64 { return h.refused })
		all := bad + m.within(m.since, h.at, parts, parts, func(h happening) int64 { return h.accepted })
		return bad > 0 && all >= m.rule.Least && float64(bad) >= m.rule.Share*float64(all)
	case Senders:
		different := map[string]bool{}
		for _, old := range m.all[m.since:] {
			if slotOf(h.at, tick)-slotOf(old.at, tick) < slotOf(m.rule.Window, tick) {
				different[old.sender] = true
			}
		}
		return int64(len(different)) > m.rule.Least
	case Identical:
		return m.within(m.sinceBody[h.body], h.at, 2, 2, func(old happening) int64 {
			if old.body != h.body {
				return 0
			}
			return old.recipients
		}) > m.rule.Least
	}
	count := m.within(m.since, h.at, parts, parts, func(h happening) int64 { return h.recipients })
	usual, windows := m.usual(h.at)
	return windows >= 3 && count >= m.rule.Least && float64(count) > m.rule.Times*usual
}

// usual goes through the windows that ended.
func (m *model) usual(now time.Duration) (usual float64, windows int) {
	sent := int64(0)
	for i, h := range m.all {
		window := slotOf(h.at, m.rule.Window)
		if window == slotOf(now, m.rule.Window) {
			break
		}
		sent += h.recipients
		if i+1 < len(m.all) && slotOf(m.all[i+1].at, m.rule.Window) == window {
			continue
		}
		value := float64(sent)
		if windows >= 3 {
			value = min(value, max(m.rule.Times*usual, float64(m.rule.Least)))
		}
		windows++
		usual += (value - usual) / float64(min(windows, 8))
		sent = 0
	}
	return usual, windows
}

func TestAgainstModel(t *testing.T) {
	rules := []Rule{
		{Kind: Refused, Share: 0.5, Least: 20, Window: time.Hour, For: time.Hour},
		{Kind: Refused, Share: 0.1, Least: 5, Window: 10 * time.Minute, For: time.Minute},
		{Kind: Senders, Least: 6, Window: time.Hour, For: 20 * time.Minute},
		{Kind: Senders, Least: 0, Window: time.Minute, For: 0},
		{Kind: Identical, Least: 60, Window: time.Hour, For: 30 * time.Minute},
		{Kind: Identical, Least: 10, Window: 4 * time.Minute, For: 0},
		{Kind: Burst, Times: 3, Least: 20, Window: 10 * time.Minute, For: time.Hour},
		{Kind: Burst, Times: 1.5, Least: 1, Window: time.Minute, For: 0},
	}
	for n, rule := range rules {
		trips := 0
		for seed := range uint64(60) {
			trips += compare(t, rule, rand.New(rand.NewPCG(seed, uint64(n))))
		}
		if trips < 10 {
			t.Errorf("%+v: %d trips in all: the test shows nothing", rule, trips)
		}
	}
}

// compare lets a Watch and the model see the same and wants the same trips.
func compare(t *testing.T, rule Rule, random *rand.Rand) (trips int) {
	t.Helper()
	watch := New([]Rule{rule})
	naive := &model{rule: rule, sinceBody: map[uint64]int{}}
	at := time.Duration(0)
	pauses := []time.Duration{0, time.Second, time.Minute, rule.Window / 8, rule.Window / 3, rule.Window}
	for step := range 300 {
		h := happening{
			at: at, sender: fmt.Sprintf("%c@example.com", 'a'+random.IntN(12)), body: 1 + random.Uint64N(maxBodies),
			recipients: 1 + random.Int64N(9), accepted: random.Int64N(4), refused: random.Int64N(3),
		}
		if random.IntN(20) == 0 {
			h.recipients *= 10
		}
		if h.accepted+h.refused == 0 {
			h.accepted = 1
		}
		got, want := tell(watch, rule.Kind, h), naive.trips(h)
		if len(got) > 1 || len(got) == 1 != want {
			t.Fatalf("%+v: step %d, after %v: trips %v, want one: %v", rule, step, at, got, want)
		}
		trips += len(got)
		if random.IntN(3) == 0 {
			at += time.Duration(random.Int64N(int64(pauses[random.IntN(len(pauses))]) + 1))
		}
	}
	return trips
}

func tell(watch *Watch, kind Kind, h happening) []Trip {
	if kind == Refused {
		return watch.Results("uid:33", start.Add(h.at), int(h.accepted), int(h.refused))
	}
	return watch.Sent("uid:33", start.Add(h.at), Message{Sender: h.sender, Recipients: int(h.recipients), Body: h.body})
}

// With more bodies than the table holds a count may be too small, never too
// large, and a body that goes to a good part of the recipients is found.
func TestManyBodies(t *testing.T) {
	rule := Rule{Kind: Identical, Least: 50, Window: time.Hour, For: 0}
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		watch := New([]Rule{rule})
		naive := &model{rule: rule, sinceBody: map[uint64]int{}}
		flood, floods, others := uint64(1<<40), 0, 0
		for range 600 {
			h := happening{at: naive.last() + time.Duration(random.Int64N(int64(3*time.Second))), body: random.Uint64(), recipients: 1 + random.Int64N(3)}
			if random.IntN(8) == 0 {
				h.body, h.recipients = flood, 2
			}
			naive.all = append(naive.all, h)
			for _, trip := range tell(watch, Identical, h) {
				if sent := naive.within(naive.sinceBody[h.body], h.at, 2, 2, func(old happening) int64 {
					if old.body == h.body {
						return old.recipients
					}
					return 0
				}); trip.Count > sent {
					t.Fatalf("seed %d: trip says %d recipients of %d", seed, trip.Count, sent)
				}
				naive.sinceBody[h.body] = len(naive.all)
				if h.body == flood {
					floods++
				} else {
					others++
				}
			}
		}
		if floods == 0 || others != 0 {
			t.Errorf("seed %d: %d trips of the flood, %d of others", seed, floods, others)
		}
	}
}

func (m *model) last() time.Duration {
	if len(m.all) == 0 {
		return 0
	}
	return m.all[len(m.all)-1].at
}
