package proxy

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// BenchmarkMessage is one message of 4 KiB on a kept session, the stand-in
// relay's share included: to compare allocations and time before and after a
// change. test/bench measures the product.
func BenchmarkMessage(b *testing.B) {
	message := "From: a@example.com\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 56) + ".\r\n"
	for _, without := range []string{"", "CHUNKING"} {
		b.Run("without "+without, func(b *testing.B) {
			stand := newStand(b, map[string]string{"without": without, "keep": "no"})
			p := newPlayer(b, stand.dial(b))
			p.expectCode("220")
			p.command("EHLO client.test")
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				_, _ = io.WriteString(p.conn, "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
				for range 3 {
					p.answer()
				}
				_, _ = io.WriteString(p.conn, message)
				if reply := p.answer(); reply[:3] != "250" {
					b.Fatal(reply)
				}
			}
		})
	}
}

// BenchmarkDecision is all that we decide about a message of one recipient: who
// is suspended, the last of 50 rules, and room in four budgets with two limits
// each.
func BenchmarkDecision(b *testing.B) {
	rules := make([]policy.Rule, 50)
	for i := range rules {
		name := "site" + strconv.Itoa(i)
		rules[i] = policy.Rule{
			Name: name, Match: policy.Match{User: []string{name, name + "-*"}, Unit: []string{"php*-fpm.service"}},
			Senders: []string{"*@" + name + ".example.com"}, Recipients: []string{"*@example.net", "*@*.example.net"}, Decision: policy.Allow,
		}
	}
	rules[49].Match.User = []string{"www-data"}
	compiled, err := policy.New(policy.Deny, rules)
	if err != nil {
		b.Fatal(err)
	}
	limits := []limit.Limit{
		{Counted: limit.Messages, Max: 1 << 40, Window: time.Hour}, {Counted: limit.Recipients, Max: 1 << 40, Window: 24 * time.Hour},
	}
	settings := &Settings{Policy: compiled, Limits: Limits{MaxRecipients: 1}, Quota: Quota{
		Default: Allotment{Limits: limits, Ladder: limit.Ladder{{Action: limit.Slow, Percent: 80}, {Action: limit.Defer, Percent: 100}}},
		Budgets: Budgets{Host: limits, Unit: limits, User: limits},
	}}
	stand := newStand(b, nil)
	for _, fresh := range []bool{true, false} {
		b.Run(map[bool]string{true: "first of a session", false: "next of a session"}[fresh], func(b *testing.B) {
			s := newSession(stand.server, nil, Submission, settings)
			s.peer = testPeer("")
			b.ReportAllocs()
			for b.Loop() {
				if fresh {
					s.senderChanged()
				}
				decide(b, s)
			}
		})
	}
}

// decide is what a transaction of one recipient asks of policy and limits.
func decide(b *testing.B, s *session) {
	s.begin("shop@site49.example.com", smtp.MailParams{Size: 4096})
	if refusal := s.judgeMail(); refusal.Code != 0 {
		b.Fatal(refusal)
	}
	if refusal := s.judgeRcpt(smtp.Recipient{Address: "customer@mail.example.net"}); refusal.Code != 0 {
		b.Fatal(refusal)
	}
	s.transaction.outcome.custody = audit.CustodyRelay
	s.transaction.closeMeter(time.Now())
	s.transaction = nil
}
