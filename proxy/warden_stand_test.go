package proxy

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/smtpwall/smtpwall/proxy/breaker"
	"github.com/smtpwall/smtpwall/proxy/limit"
)

// newWarden counts in memory.
func (b *stand) newWarden(t testing.TB) *Warden {
	t.Helper()
	limits, err := limit.Open(limit.Options{Logger: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	watch := breaker.New([]breaker.Rule{
		{Kind: breaker.Refused, Share: 0.5, Least: 4, Window: time.Hour, For: time.Hour},
		{Kind: breaker.Identical, Least: 10, Window: time.Hour, For: time.Hour, Report: true},
	})
	w := NewWarden(WardenOptions{Limits: limits, Breakers: watch, Events: b.events, Alarm: b.alarms.note, Logger: zaptest.NewLogger(t)})
	t.Cleanup(func() {
		_ = w.Close(t.Context())
		_ = limits.Close()
	})
	return w
}

// alarmLog keeps alarms for the test to look at.
type alarmLog struct {
	mu  sync.Mutex
	all []Alarm
}

func (l *alarmLog) note(a Alarm) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, a)
}

// kinds are those of all alarms, in order.
func (l *alarmLog) kinds() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var kinds []string
	for _, a := range l.all {
		kinds = append(kinds, a.Kind)
	}
	return strings.Join(kinds, " ")
}

// testQuota reads the options "limits", "sender_limits" and "host_limits", lists
// of "kind maximum", all for an hour, and "ladder", a list of "action percent".
func testQuota(t testing.TB, options map[string]string) Quota {
	q := Quota{Default: Allotment{Limits: testLimits(t, options["limits"]), SuspendFor: time.Duration(number(options, "suspend_ms", 0)) * time.Millisecond}}
	q.Budgets.Sender, q.Budgets.Host = testLimits(t, options["sender_limits"]), testLimits(t, options["host_limits"])
	for word, percent := range pairs(t, options["ladder"]) {
		for _, action := range []limit.Action{limit.Slow, limit.Defer, limit.Hold, limit.Suspend} {
			if action.String() == word {
				q.Default.Ladder = append(q.Default.Ladder, limit.Rung{Action: action, Percent: int(percent)})
			}
		}
	}
	return q
}

func testLimits(t testing.TB, text string) (limits []limit.Limit) {
	for word, n := range pairs(t, text) {
		for _, counted := range []limit.Counted{limit.Messages, limit.Recipients, limit.NewRecipients, limit.Bytes} {
			if counted.String() == word {
				limits = append(limits, limit.Limit{Counted: counted, Max: n, Window: time.Hour})
			}
		}
	}
	return limits
}

// pairs reads "word number, word number".
func pairs(t testing.TB, text string) func(yield func(string, int64) bool) {
	return func(yield func(string, int64) bool) {
		for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
			word, digits, _ := strings.Cut(strings.TrimSpace(part), " ")
			n, err := strconv.ParseInt(digits, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if !yield(word, n) {
				return
			}
		}
	}
}
