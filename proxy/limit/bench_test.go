package limit

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// fourBudgets are two limits each for an identity, its user, its unit and the host.
func fourBudgets(identity string) []Budget {
	both := []Limit{{Messages, 1 << 40, time.Hour}, {Recipients, 1 << 40, 24 * time.Hour}}
	return []Budget{
		{Key: identity, Limits: both}, {Key: "user:" + identity, Limits: both},
		{Key: "unit:php-fpm.service", Limits: both, Shared: true}, {Key: "host", Limits: both, Shared: true},
	}
}

// BenchmarkTake is one message to one recipient: claimed at MAIL and at RCPT in
// four budgets of two limits each, and committed.
func BenchmarkTake(b *testing.B) {
	l := open(b)
	budgets := fourBudgets("uid:33")
	now := time.Now()
	var c Claim
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(100 * time.Microsecond)
		l.Begin(&c, "uid:33", budgets)
		if !c.Take(now, Amount{Messages: 1}).Room || !c.Take(now, Amount{Recipients: 1, Recipient: "a@example.com"}).Room {
			b.Fatal("no room")
		}
		c.Commit(now)
	}
}

// BenchmarkTakeTogether is the same from all processors, each with an identity of
// its own in the same unit and host.
func BenchmarkTakeTogether(b *testing.B) {
	l := open(b)
	now := time.Now()
	var identities atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		identity := fmt.Sprintf("uid:%d", identities.Add(1))
		budgets := fourBudgets(identity)
		var c Claim
		for pb.Next() {
			l.Begin(&c, identity, budgets)
			if !c.Take(now, Amount{Messages: 1}).Room || !c.Take(now, Amount{Recipients: 1}).Room {
				b.Error("no room")
			}
			c.Commit(now)
		}
	})
}

// BenchmarkTakeMany goes through 100,000 identities, each with a user of its own.
func BenchmarkTakeMany(b *testing.B) {
	l := open(b)
	now := time.Now()
	budgets := make([][]Budget, 100_000)
	for i := range budgets {
		budgets[i] = fourBudgets(fmt.Sprintf("uid:%d", i))
		send(l, budgets[i][0].Key, budgets[i], now, Amount{Messages: 1, Recipients: 1})
	}
	var c Claim
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		its := budgets[i*7919%len(budgets)]
		l.Begin(&c, its[0].Key, its)
		if !c.Take(now, Amount{Messages: 1, Recipients: 1}).Room {
			b.Fatal("no room")
		}
		c.Commit(now)
	}
}

// BenchmarkTakeNew is a message to a recipient of which the identity knows 10,000.
func BenchmarkTakeNew(b *testing.B) {
	l := open(b)
	now := time.Now()
	budgets := limits("uid:33", Limit{NewRecipients, 1 << 40, time.Hour})
	names := make([]string, 9000)
	for i := range names {
		names[i] = fmt.Sprintf("user%d@example.com", i)
		send(l, "uid:33", budgets, now, Amount{Recipient: names[i]})
	}
	var c Claim
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l.Begin(&c, "uid:33", budgets)
		c.Take(now, Amount{Messages: 1, Recipients: 1, Recipient: names[i%len(names)]})
		c.Commit(now)
	}
}

// BenchmarkRefused is a claim without room in a full window.
func BenchmarkRefused(b *testing.B) {
	l := open(b)
	now := time.Now()
	budgets := limits("uid:33", Limit{Messages, 64, time.Hour})
	for i := range 64 {
		send(l, "uid:33", budgets, now.Add(time.Duration(i)*time.Hour/64), Amount{Messages: 1})
	}
	now = now.Add(time.Hour)
	var c Claim
	b.ReportAllocs()
	for b.Loop() {
		l.Begin(&c, "uid:33", budgets)
		c.Take(now, Amount{Messages: 1})
		c.Cancel()
	}
}

func BenchmarkSuspendedNobody(b *testing.B) {
	l := open(b)
	now := time.Now()
	for b.Loop() {
		if _, ok := l.Suspended(now, "uid:33", "unit:php-fpm.service"); ok {
			b.Fatal("suspended")
		}
		if n, _, _ := l.Raised("uid:33", now); n > 0 {
			b.Fatal("raised")
		}
	}
}

// BenchmarkFlush saves a thousand keys of a hundred thousand, and then loads all.
func BenchmarkFlush(b *testing.B) {
	path := filepath.Join(b.TempDir(), "limits.db")
	l := openAt(b, path)
	now := time.Now()
	for i := range 100_000 {
		key := fmt.Sprintf("uid:%d", i)
		send(l, key, []Budget{{Key: key, Limits: []Limit{{Messages, 1 << 40, time.Hour}, {Recipients, 1 << 40, day}}}}, now, Amount{Messages: 1, Recipients: 1})
	}
	if err := l.flush(); err != nil {
		b.Fatal(err)
	}
	b.Run("1000 of 100000", func(b *testing.B) {
		for b.Loop() {
			for i := range 1000 {
				key := fmt.Sprintf("uid:%d", i*97)
				send(l, key, []Budget{{Key: key, Limits: []Limit{{Messages, 1 << 40, time.Hour}, {Recipients, 1 << 40, day}}}}, now, Amount{Messages: 1, Recipients: 1})
			}
			if err := l.flush(); err != nil {
				b.Fatal(err)
			}
		}
	})
	closed(b, l)
	b.Run("open 100000", func(b *testing.B) {
		for b.Loop() {
			closed(b, openAt(b, path))
		}
	})
}
