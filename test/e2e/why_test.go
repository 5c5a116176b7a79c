package e2e_test

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// reckoned is what `smtpwall why --json` says.
type reckoned struct {
	Txn    string        `json:"txn"`
	Events []audit.Event `json:"events"`
	Spool  *listed       `json:"spool"`
	Today  struct {
		Decision string       `json:"decision"`
		Limits   []limitState `json:"limits"`
		Rules    []struct {
			Rule    string `json:"rule"`
			Matched bool   `json:"matched"`
			Why     string `json:"why"`
		} `json:"rules"`
	} `json:"today"`
}

func (b *bed) why(t testing.TB, txn string) (r reckoned, text string) {
	t.Helper()
	stdout, stderr, status := b.output("why", txn, "--json")
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || status != 0 {
		t.Fatalf("why ended with status %d, %v: %s%s", status, err, stdout, stderr)
	}
	text, stderr, status = b.output("why", "[smtpwall", txn+"]")
	if status != 0 || stderr != "" {
		t.Errorf("why ended with status %d: %s", status, stderr)
	}
	return r, text
}

// TestWhy: for each way in which a transaction ends the command tells what
// happened, which rule decided and why the others did not, and how the limits
// stand.
func TestWhy(t *testing.T) {
	t.Parallel()
	config := quick + limitRule("narrow", 7721, `limits = ["1 messages/hour"]`) +
		"[[policy.rule]]\nname = \"sites\"\nmatch = { user = [\"www-data\"] }\nsenders = [\"*@shop.example\"]\ndecision = \"allow\"\n"
	b := newBed(t, setup{config: config})
	_, sent := b.postAs(t, siteUID)
	refused := b.talk(t).send(newLetter(), "boss@bank.example", recipient)
	b.mustPost(t, 7721, 1)
	_, limited := b.postAs(t, 7721)
	_, stranger := b.postAs(t, 7722)
	for name, c := range map[string]struct {
		reply reply
		today string
		shown []string
	}{
		"sent":         {sent, "allow", []string{"user www-data, uid 33", `narrow`, "decides", `user "www-data" fits www-data`, "allow", "1 of 200 used", "as then"}},
		"refused":      {refused, "deny", []string{"boss@bank.example", "sender not allowed for this identity", "as then"}},
		"over a limit": {limited, "allow", []string{"then defer: no room in the limit of 1 messages/hour of uid:7721"}},
		"a stranger":   {stranger, "deny", []string{"uid 7722", `fits none of`, "as then"}},
	} {
		t.Run(name, func(t *testing.T) {
			txn := c.reply.txn(t)
			b.transaction(t, txn)
			r, text := b.why(t, txn)
			if r.Txn != txn || len(r.Events) == 0 || r.Today.Decision != c.today {
				t.Errorf("why --json says %+v", r)
			}
			for _, shown := range c.shown {
				if !strings.Contains(text, shown) {
					t.Errorf("why does not show %q:\n%s", shown, text)
				}
			}
		})
	}
	b.orders(t, 1, "no such transaction", "why", "01M80MRQ15R4YY1WMFCW59NB5G")
	b.orders(t, 2, "is no id of a transaction", "why", "R1")
	b.checkWhyLater(t, config)
}

// checkWhyLater: of a message that waited the command tells each try, and that the
// configuration of today decides otherwise.
func (b *bed) checkWhyLater(t *testing.T, config string) {
	b.relay.On(testkit.StepMail, testkit.Fault{Text: "451 4.3.0 not now", Times: 1})
	l, got := b.postAs(t, siteUID)
	txn := got.txn(t)
	if r, text := b.why(t, txn); r.Spool == nil || !strings.Contains(text, "now in the spool: deferred") {
		t.Errorf("of a message that waits why says:\n%s", text)
	}
	b.retry(t, txn)
	b.awaitDelivery(t, txn)
	findOne(t, b.relay, l)
	b.reload(setup{config: strings.Replace(config, "*@shop.example", "*@other.example", 1)})
	r, text := b.why(t, txn)
	if len(r.Events) < 2 || r.Today.Decision != "deny" || !strings.Contains(text, "451 4.3.0 not now") || !strings.Contains(text, "what differs: ") {
		t.Errorf("of a message that was delivered why says:\n%s", text)
	}
	if err := b.run.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if r, text := b.why(t, txn); r.Today.Decision != "deny" {
		t.Errorf("while nothing runs why says:\n%s", text)
	}
}

// TestTestCommand: a question that nobody sends is answered as a client would be,
// and leaves no trace.
func TestTestCommand(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: quick + holdRules + accountConfig(t) + `
[[policy.rule]]
name = "accounts"
match = { account = ["web*"] }
decision = "allow"
header_from = "any"
[[expect]]
as = "www-data"
from = "orders@shop.example"
to = ["customer@example.net"]
decision = "hold"
rule = "look"
[[expect]]
account = "webshop"
from = "<>"
decision = "allow"
[[expect]]
from = "orders@shop.example"
decision = "deny"
`})
	message := b.write("message.eml", string(mismatched().unix()), 0o644, 0)
	for args, c := range map[string]struct {
		status int
		shown  string
	}{
		"--as www-data --from orders@shop.example --to customer@example.net":                             {1, "hold"},
		"--as www-data --from boss@bank.example":                                                         {1, "sender not allowed for this identity"},
		"--as www-data --from orders@shop.example --to customer@example.net --message " + message:        {1, "deny"},
		"--as account:webshop --from orders@shop.example --to customer@example.net":                      {0, "allow"},
		"--as account:webshop --from orders@shop.example --to customer@example.net --message " + message: {0, "allow"},
		"--as uid:7701 --from orders@shop.example --to customer@example.net":                             {1, "defer"},
		"--as unknown --from orders@shop.example":                                                        {1, "deny"},
		"--as www-data --from no-address":                                                                {2, "is no address"},
		"--from orders@shop.example":                                                                     {2, "--as"},
	} {
		stdout, stderr, status := b.output("test", strings.Fields(args)...)
		if status != c.status || !strings.Contains(stdout+stderr, c.shown) {
			t.Errorf("test %s ended with status %d, want %d and %q:\n%s%s", args, status, c.status, c.shown, stdout, stderr)
		}
	}
	if events := b.events("--kind", "transaction"); len(events) > 0 {
		t.Errorf("the questions have left %+v", events)
	}
	b.checkTestTime(t)
	b.checkExpect(t)
}

// checkTestTime: a suspension with an end is over at a time after it.
func (b *bed) checkTestTime(t *testing.T) {
	b.orders(t, 0, "is suspended until", "suspend", "account:webshop", "--for", "1h")
	args := []string{"--as", "account:webshop", "--from", sender, "--to", recipient}
	if stdout, stderr, status := b.output("test", args...); status != 1 || !strings.Contains(stdout, "suspended") {
		t.Errorf("of who is suspended test says, with %d:\n%s%s", status, stdout, stderr)
	}
	later := time.Now().Add(2 * time.Hour).UTC().Format(time.RFC3339)
	if stdout, stderr, status := b.output("test", append(args, "--time", later)...); status != 0 {
		t.Errorf("of the time after the suspension test says, with %d:\n%s%s", status, stdout, stderr)
	}
}

// checkExpect: check tries the cases, and a failed one fails it with what came
// instead.
func (b *bed) checkExpect(t *testing.T) {
	if stdout, stderr, status := b.output("check", "--offline"); status != 0 {
		t.Errorf("with cases that hold check ended with %d: %s%s", status, stdout, stderr)
	}
	text := readFile(t, b.path("host.toml"))
	b.write("host.toml", strings.Replace(text, "decision = \"hold\"\nrule = \"look\"", "decision = \"allow\"\nrule = \"accounts\"", 1), 0o644, 0)
	_, stderr, status := b.output("check", "--offline")
	for _, shown := range []string{"expect", "hold", "look", "host.toml:"} {
		if status == 0 || status == 3 || !strings.Contains(stderr, shown) {
			t.Errorf("with a case that fails check ended with %d, want %q: %s", status, shown, stderr)
		}
	}
	b.write("host.toml", text, 0o644, 0)
}
