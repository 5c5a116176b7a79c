package limit

import (
	"testing"
	"time"
)

// fourBudgets are two limits each for an identity, its user, its unit and the host.
func fourBudgets(identity string) []Budget {
	both := []Limit{{Messages, 1 << 40, time.Hour}, {Recipients, 1 << 40, 24 * time.Hour}}
	return []Budget{{identity, both}, {"user:" + identity, both}, {"unit:php-fpm.service", both}, {"host", both}}
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
