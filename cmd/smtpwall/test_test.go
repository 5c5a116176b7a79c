package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/proxy/limit"
)

const testedConfig = `
[listen]
admin = "DIR/a"
[delivery]
spool = "DIR/spool"
[audit]
directory = "DIR"
[session]
max_message = "64KiB"
[relay.main]
address = "smtp.example.com:587"
[[policy.rule]]
name = "root"
match = { user = ["root"] }
senders = ["*@example.com", "<>"]
recipients = ["*@example.net"]
decision = "allow"
relay = "main"
limits = ["100 messages/hour", "5 recipients/day"]
[[policy.rule]]
name = "new"
match = { unit = ["new.service"] }
decision = "hold"
[[policy.rule]]
name = "accounts"
match = { account = ["*"] }
decision = "allow"
`

func TestTest(t *testing.T) {
	config := file(t, testedConfig)
	letter := filepath.Join(filepath.Dir(config), "letter")
	write(t, letter, "Subject: x\nFrom: Root\n <root@example.com>\n\nFrom: b@example.org\n")
	large := filepath.Join(filepath.Dir(config), "large")
	write(t, large, "From: root@example.com\n\n"+strings.Repeat("0123456789\n", 5460)) // it is too large on the wire, where a line ends with CRLF
	for _, test := range []struct {
		args   string
		input  string
		status int
		out    string // its last line
		err    string
	}{
		{args: "--as root", out: `allow: allowed by rule (rule "root"), by relay main`},
		{args: "--as uid:0 --from a@example.com --to b@example.net", out: `allow: allowed by rule (rule "root"), by relay main`},
		{args: "--as root --from <>", out: `allow: allowed by rule (rule "root"), by relay main`},
		{args: "--as root --from a@example.org", status: exitFailed, out: `deny: sender not allowed for this identity (rule "root")`},
		{args: "--as root --to b@example.net --to b@example.org", status: exitFailed, out: `deny: recipient not allowed for this identity (rule "root")`},
		{args: "--as root --header-from a@example.org", status: exitFailed, out: `deny: From field not allowed for this identity (rule "root")`},
		{args: "--as root --message " + letter, out: `allow: allowed by rule (rule "root"), by relay main`},
		{args: "--as root --message -", input: "From: x@example.org\r\n\r\n", status: exitFailed, out: `deny: From field not allowed for this identity (rule "root")`},
		{args: "--as root --message " + large, status: exitFailed, out: `deny: message too large`},
		{args: "--as unit:new.service", status: exitFailed, out: `hold: held by rule (rule "new")`},
		{args: "--unit new.service --container d4f1", status: exitFailed, out: `hold: held by rule (rule "new")`},
		{args: "--as account:shop --listener submissions", out: `allow: allowed by rule (rule "accounts")`},
		{args: "--as root --account shop --from a@example.com", out: `allow: allowed by rule (rule "root"), by relay main`},
		{args: "--as unknown", status: exitFailed, out: "deny: identity unknown"},

		{args: "", status: exitUsage, err: "smtpwall: error: test needs to know who sends\nhint: say --as www-data"},
		{args: "--as no-such-user", status: exitUsage, err: "smtpwall: error: no such user on this host: \"no-such-user\"\nhint: check the spelling"},
		{args: "--as name:x", status: exitUsage, err: "smtpwall: error: --as: \"name:x\" begins with neither"},
		{args: "--as account:a --account b", status: exitUsage, err: "smtpwall: error: --account is said twice\n"},
		{args: "--as root --listener smtp", status: exitUsage, err: "smtpwall: error: there is no listener \"smtp\"\nhint: submission, "},
		{args: "--as root --from root", status: exitUsage, err: "smtpwall: error: --from: \"root\" is no address\nhint: write local@domain"},
		{args: "--as root --to a@b>", status: exitUsage, err: "smtpwall: error: --to: \"a@b>\" is no address\n"},
		{args: "--as root --time tomorrow", status: exitUsage, err: "smtpwall: error: \"tomorrow\" is no time\nhint: write --time 2027-"},
		{args: "--as root --message x --header-from a@b", status: exitUsage, err: "smtpwall: error: --message has a From field of its own\n"},
		{args: "--as root --message /nonexistent/letter", status: exitFailed, err: "smtpwall: error: the message cannot be read: open /nonexistent/letter: no such file"},
		{args: "--as root now", status: exitUsage, err: "smtpwall: error: unexpected argument \"now\"\n"},
	} {
		status, out, err := run(t, test.input, append([]string{"test", "--config", config}, strings.Fields(test.args)...)...)
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		if status != test.status || lines[len(lines)-1] != test.out || !strings.HasPrefix(err, test.err) {
			t.Errorf("test %s: status %d, stdout\n%s\nstderr %q; want %d, %q, %q", test.args, status, out, err, test.status, test.out, test.err)
		}
	}
}

// TestTestTells looks at everything that is printed.
func TestTestTells(t *testing.T) {
	config := file(t, testedConfig)
	_, out, _ := run(t, "", "test", "--config", config, "--as", "account:shop\x1b[2J", "--from", "a@example.com", "--to", "b@example.net")
	want := `identity: account shop\x1b[2J
listener: submission
rules, in order:
  root      does not fit  it has no user; wanted: root
  new       does not fit  it has no unit; wanted: new.service
  accounts  decides       account "shop\x1b[2J" fits *
rule "accounts" says allow for senders *, recipients *, From field: senders
decision:
  session             allow  allowed by rule
  MAIL a@example.com  allow  allowed by rule
  RCPT b@example.net  allow  allowed by rule
limits, and their use by now:
  account:shop\x1b[2J  200 messages/hour    unknown
  account:shop\x1b[2J  2000 recipients/day  unknown
  ladder               slow at 80%, defer at 100%
their use is not known: no proxy is running: nobody answers at DIR/a
allow: allowed by rule (rule "accounts")
`
	if got := strings.ReplaceAll(out, filepath.Dir(config), "DIR"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// limitedProxy is a proxy that knows of limits.
type limitedProxy struct {
	*fakeProxy
	states map[string][]admin.LimitState
}

func (p *limitedProxy) Limits(_ context.Context, key, _ string) ([]admin.LimitState, error) {
	return p.states[key], nil
}

// answers makes the proxy answer at the socket of a configuration.
func (p *limitedProxy) answers(t *testing.T, config string) {
	t.Helper()
	serveAdmin(t, config, admin.Options{Reader: p, Limits: p, Actor: p})
}

func TestTestAsksTheProxy(t *testing.T) {
	config := file(t, testedConfig)
	host := admin.LimitState{Key: "host", Limit: "9 messages/day", Used: 9, Max: 9, Opens: time.Now().Add(time.Hour)}
	p := &limitedProxy{&fakeProxy{off: map[string]limit.Suspension{
		"uid:0": {Key: "uid:0", Reason: "phished", By: "uid 0", Since: time.Now(), Until: time.Now().Add(time.Hour)},
	}}, map[string][]admin.LimitState{
		"uid:0":            {{Key: "uid:0", Limit: "100 messages/hour", Used: 12, Max: 100, Refused: 3}, host, {Key: "uid:0", Raised: 1, Why: "relays refused 9 of 10", Opens: time.Now().Add(time.Hour)}},
		"unit:new.service": {host},
	}}
	p.answers(t, config)

	status, out, _ := run(t, "", "test", "--config", config, "--as", "root", "--unit", "new.service")
	for _, want := range []string{
		"\n  suspension  defer  uid:0 is suspended since ", " by uid 0: phished\n",
		"\n  uid:0   100 messages/hour  12 of 100 used, 3 refused\n", "\n  uid:0   5 recipients/day   unknown\n",
		"\ndefer: identity suspended\n", "the ladder begins with ", ": relays refused 9 of 10\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if status != exitFailed {
		t.Errorf("status %d", status)
	}
	later := time.Now().Add(2 * time.Hour).Format(time.RFC3339)
	if status, out, _ := run(t, "", "test", "--config", config, "--as", "root", "--time", later); status != exitDone {
		t.Errorf("after the suspension: %d\n%s", status, out)
	}

	_, out, _ = run(t, "", "test", "--config", config, "--as", "root", "--unit", "new.service", "--json")
	var answer struct {
		Identity, Decision, Reason string
		Rules                      []struct {
			Rule, Why        string
			Matched, Decided bool
		}
		Stages     []struct{ Stage, Decision string }
		Limits     []admin.LimitState
		Suspension limit.Suspension
		Budgets    []struct{ Key string }
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Identity != "uid:0" || answer.Decision != "defer" || answer.Reason != "identity suspended" || answer.Suspension.Reason != "phished" ||
		len(answer.Rules) != 3 || !answer.Rules[0].Decided || !answer.Rules[1].Matched || answer.Rules[1].Decided || answer.Rules[2].Why == "" ||
		len(answer.Limits) != 3 || answer.Limits[1].Used != 9 || len(answer.Stages) != 1 || answer.Stages[0].Decision != "allow" || len(answer.Budgets) != 1 {
		t.Errorf("%+v", answer)
	}
}

func TestHeaderSection(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "\n": "", "a: b": "a: b", "a: b\n": "a: b\n", "a: b\n\nc: d\n": "a: b\n", "a: b\r\n\r\nc": "a: b\r\n", "a: b\n \nc: d\n\n": "a: b\n \nc: d\n", "\r\na: b\n": "",
	} {
		if got := headerSection([]byte(text)); string(got) != want || got == nil {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestWireCounter(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "a": 1, "a\n": 3, "a\r\n": 3, "\n\n": 4, "a\r\nb\n": 6} {
		var whole, pieces wireCounter
		_, _ = whole.Write([]byte(text))
		for i := range len(text) {
			_, _ = pieces.Write([]byte{text[i]})
		}
		if whole.octets != want || pieces.octets != want {
			t.Errorf("%q: %d, in pieces %d, want %d", text, whole.octets, pieces.octets, want)
		}
	}
}

func TestCheckTriesExpectations(t *testing.T) {
	expect := "[[expect]]\nas = \"root\"\nfrom = \"a@example.com\"\nto = [\"b@example.net\"]\ndecision = \"allow\"\nrule = \"root\"\n"
	good := file(t, testedConfig+expect)
	if status, out, err := run(t, "", "check", "--offline", good); status != exitDone || !strings.HasSuffix(out, "3 policy rules, 1 expectations met\n") {
		t.Errorf("met: %d, %q, %q", status, out, err)
	}
	bad := file(t, testedConfig+expect+strings.ReplaceAll(expect, "b@example.net", "b@example.org"))
	line := strings.Count(testedConfig+expect, "\n") + 1
	status, out, err := run(t, "", "check", "--offline", bad)
	want := strings.ReplaceAll(`smtpwall: error: FILE:LINE: expect: wants allow, gets deny at RCPT of b@example.org: recipient not allowed for this identity (rule "root")
hint: smtpwall test --as root --from a@example.com --to b@example.org shows each rule and why
smtpwall: error: 1 of 2 expectations are not met
hint: correct the policy, or the [[expect]] where the policy is right
`, "FILE:LINE", bad+":"+itoa(line))
	if status != exitUsage || out != "" || !strings.HasSuffix(err, want) {
		t.Errorf("not met: %d, %q\n%s\nwant\n%s", status, out, err, want)
	}
}
