package app

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/policy"
)

// parsed is a configuration that has no error.
func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, problems := config.Parse("test.toml", []byte(text), config.Options{SkipSecrets: true})
	if cfg == nil {
		t.Fatal(problems)
	}
	return cfg
}

const sitesConfig = `
[relay.main]
address = "smtp.example.com:587"
[session]
max_message = "1MiB"
[[policy.rule]]
name = "no-root"
match = { uid = ["0"] }
decision = "deny"
[[policy.rule]]
name = "sites"
match = { user = ["www-data", "site-*"] }
senders = ["*@example.com", "<>"]
recipients = ["*@example.net"]
decision = "allow"
relay = "main"
[[policy.rule]]
name = "accounts"
match = { account = ["*"] }
decision = "allow"
`

var www = policy.Identity{Proven: true, Placed: true, UID: 33, User: "www-data", Groups: []string{"www-data"}, Unit: "php8.2-fpm.service"}

func TestExplain(t *testing.T) {
	cfg := parsed(t, sitesConfig)
	account := policy.Identity{Account: "shop"}
	for _, c := range []struct {
		name string
		q    Question
		want string // stages, then the whole
	}{
		{"the identity alone", Question{Identity: www}, "session allow; allow: allowed by rule (sites main)"},
		{"all fits", Question{Identity: www, From: "a@example.com", To: []string{"b@example.net"}, Header: []byte("From: a@example.com\r\n")},
			"session allow, MAIL a@example.com allow, RCPT b@example.net allow, header a@example.com allow; allow: allowed by rule (sites main)"},
		{"the null reverse-path", Question{Identity: www, From: "<>"}, "session allow, MAIL <> allow; allow: allowed by rule (sites main)"},
		{"a foreign sender", Question{Identity: www, From: "a@example.org", To: []string{"b@example.net"}},
			"session allow, MAIL a@example.org deny, RCPT b@example.net allow; deny: sender not allowed for this identity (sites main)"},
		{"one of two recipients", Question{Identity: www, To: []string{"b@example.net", "b@example.org"}},
			"session allow, RCPT b@example.net allow, RCPT b@example.org deny; deny: recipient not allowed for this identity (sites main)"},
		{"the first that denies is told", Question{Identity: www, From: "a@example.org", To: []string{"b@example.org"}},
			"session allow, MAIL a@example.org deny, RCPT b@example.org deny; deny: sender not allowed for this identity (sites main)"},
		{"no From field", Question{Identity: www, Header: []byte{}}, "session allow, header deny; deny: From field missing (sites main)"},
		{"too large", Question{Identity: account, Size: 1<<20 + 1}, "session allow, size 1048577 deny; deny: message too large ( )"},
		{"as large as it may be", Question{Identity: account, Size: 1 << 20}, "session allow; allow: allowed by rule (accounts )"},
		{"root", Question{Identity: policy.Identity{Proven: true, User: "root"}}, "session deny; deny: identity not allowed to send (no-root )"},
		{"unknown", Question{}, "session deny; deny: identity unknown ( )"},
	} {
		c.q.Listener = config.RoleSubmission
		e, err := Explain(cfg, c.q)
		if err != nil {
			t.Fatal(err)
		}
		var stages []string
		for _, s := range e.Stages {
			stages = append(stages, strings.Join(strings.Fields(s.Stage+" "+s.Address+" "+s.Result), " "))
		}
		got := fmt.Sprintf("%s; %s: %s (%s %s)", strings.Join(stages, ", "), e.Result, e.Reason, e.Rule, e.Relay)
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// Explain must say what the rules themselves say.
func TestExplainSteps(t *testing.T) {
	e, err := Explain(parsed(t, sitesConfig), Question{Identity: www, Listener: config.RoleSocket})
	if err != nil {
		t.Fatal(err)
	}
	want := []policy.Step{
		{Rule: "no-root", Why: `uid "33" fits none of 0`},
		{Rule: "sites", Matched: true, Decided: true, Why: `user "www-data" fits www-data`},
		{Rule: "accounts", Why: "it has no account; wanted: *"},
	}
	if !reflect.DeepEqual(e.Rules, want) {
		t.Errorf("got %+v\nwant %+v", e.Rules, want)
	}
	if rule := e.Decider(); rule == nil || rule.Name != "sites" || len(rule.Senders) != 2 {
		t.Errorf("the decider is %+v", rule)
	}
}

func TestExplainSuspension(t *testing.T) {
	cfg := parsed(t, sitesConfig)
	at := time.Date(2027, 1, 31, 8, 0, 0, 0, time.UTC)
	session := www
	session.Unit = "session-12.scope"
	inside := policy.Identity{Proven: true, Placed: true, UID: 33, Container: "d4f1"}
	for _, c := range []struct {
		name string
		id   policy.Identity
		list []limit.Suspension
		want string
	}{
		{"by uid", www, []limit.Suspension{{Key: "uid:33"}}, "deny"},
		{"by unit", www, []limit.Suspension{{Key: "unit:php8.2-fpm.service"}}, "deny"},
		{"until later", www, []limit.Suspension{{Key: "uid:33", Until: at.Add(time.Second)}}, "defer"},
		{"over", www, []limit.Suspension{{Key: "uid:33", Until: at}}, ""},
		{"the one without an end counts", www, []limit.Suspension{{Key: "uid:33", Until: at.Add(time.Hour)}, {Key: "unit:php8.2-fpm.service"}}, "deny"},
		{"somebody else", www, []limit.Suspension{{Key: "uid:34"}, {Key: "account:www-data"}, {Key: "unit:cron.service"}}, ""},
		{"a login has no unit", session, []limit.Suspension{{Key: "unit:session-12.scope"}}, ""},
		{"a container is not its uid", inside, []limit.Suspension{{Key: "uid:33"}}, ""},
		{"a container", inside, []limit.Suspension{{Key: "container:d4f1"}}, "deny"},
		{"an account", policy.Identity{Account: "shop"}, []limit.Suspension{{Key: "account:shop"}}, "deny"},
		{"an account that a user uses", policy.Identity{Proven: true, UID: 33, Account: "shop"}, []limit.Suspension{{Key: "account:shop"}}, "deny"},
		{"a uid that was not said", policy.Identity{Proven: true, UID: noUID, Unit: "x.service"}, []limit.Suspension{{Key: "uid:4294967295"}, {Key: unstated}}, ""},
	} {
		e, err := Explain(cfg, Question{Identity: c.id, Listener: config.RoleSubmission, Time: at, Suspensions: c.list})
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Suspension != nil; got != (c.want != "") || got && (e.Result != c.want || e.Reason != ReasonSuspended || e.Rule != "") {
			t.Errorf("%s: %s, %s, %+v; want %q", c.name, e.Result, e.Reason, e.Suspension, c.want)
		}
	}
}

func TestExplainBudgets(t *testing.T) {
	cfg := parsed(t, sitesConfig)
	hour := func(n int64) []config.Limit {
		return []config.Limit{{Max: n, Counted: config.Messages, Window: time.Hour}}
	}
	cfg.Policy.Limits, cfg.Policy.Ladder = hour(1), []config.Rung{{Action: config.ActionSlow, Percent: 80}}
	cfg.Policy.Budgets = config.Budgets{Host: hour(2), Unit: hour(3), Container: hour(4), User: hour(5), Account: hour(6), Sender: hour(7)}
	own := &cfg.Policy.Rules[2] // accounts
	own.Limits, own.LimitsStated, own.LadderStated = hour(8), true, true
	login := www
	login.Unit = "session-3.scope"
	for _, c := range []struct {
		name string
		q    Question
		want string
	}{
		{"a user in a unit", Question{Identity: www, From: "Shop@Example.com"},
			"uid:33 1, sender:uid:33:shop@example.com 7, user:uid:33 5, unit:php8.2-fpm.service 3, host 2; slow at 80%"},
		{"the null reverse-path", Question{Identity: www, From: "<>"},
			"uid:33 1, sender:uid:33: 7, user:uid:33 5, unit:php8.2-fpm.service 3, host 2; slow at 80%"},
		{"a login", Question{Identity: login}, "uid:33 1, user:uid:33 5, host 2; slow at 80%"},
		{"a container", Question{Identity: policy.Identity{Proven: true, UID: 33, Container: "d4f1", Unit: "docker.service"}},
			"container:d4f1 1, container:d4f1 4, unit:docker.service 3, host 2; slow at 80%"},
		{"a rule of its own", Question{Identity: policy.Identity{Account: "shop"}}, "account:shop 8, account:shop 6, host 2; "},
		{"a uid that was not said", Question{Identity: policy.Identity{Proven: true, UID: noUID, Unit: "x.service"}}, "uid:? 1, unit:x.service 3, host 2; slow at 80%"},
	} {
		c.q.Listener = config.RoleSubmission
		e, err := Explain(cfg, c.q)
		if err != nil {
			t.Fatal(err)
		}
		var budgets []string
		for _, b := range e.Budgets {
			budgets = append(budgets, b.Key+" "+strings.TrimSuffix(strings.Join(b.Limits, ","), " messages/hour"))
		}
		if got := strings.Join(budgets, ", ") + "; " + strings.Join(e.Ladder, ", "); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestExplainDirect(t *testing.T) {
	cfg := parsed(t, sitesConfig)
	at := time.Date(2027, 1, 31, 8, 0, 0, 0, time.UTC)
	cfg.Firewall.Allow = []config.AllowEntry{
		{User: "www-data", Host: "smtp.example.org", Port: 587},
		{UID: "33", Host: "2001:db8::1", Port: 25, Until: at.Add(time.Hour)},
		{UID: "33", Host: "192.0.2.1", Port: 25, Until: at},
		{Group: "www-data", Host: "192.0.2.0/24", Port: 465},
		{Unit: "postfix.service", Host: "192.0.2.9", Port: 25},
	}
	for _, c := range []struct {
		id   policy.Identity
		want string
	}{
		{www, "smtp.example.org:587, [2001:db8::1]:25 until 2027-01-31T09:00:00Z, 192.0.2.0/24:465"},
		{policy.Identity{Proven: true, UID: 5, Unit: "postfix.service"}, "192.0.2.9:25"},
		{policy.Identity{Proven: true, UID: 33, User: "www-data", Container: "d4f1"}, ""},
		{policy.Identity{Account: "www-data"}, ""},
		{policy.Identity{}, ""},
	} {
		e, err := Explain(cfg, Question{Identity: c.id, Time: at})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(e.Direct, ", "); got != c.want {
			t.Errorf("%+v may dial %q, want %q", c.id, got, c.want)
		}
	}
}
