package plan

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// everybody is a host with all there is to propose for.
func everybody() []*audit.Event {
	container := attempt(0, 33, "docker-x.scope", "192.0.2.1:587", 1)
	container.PeerContainer = strings.Repeat("4f", 32)
	account := message(0, 0, "a@example.com", "allow")
	account.PeerUID, account.PeerUnit, account.AuthID = audit.UID{}, "", "web shop ü"
	nameless := attempt(0, 4711, "", "192.0.2.1:465", 1)
	events := []*audit.Event{
		attempt(0, 33, "php8.2-fpm.service", "192.0.2.1:587", 9), attempt(0, 33, "cron.service", "[2001:db8::1]:25", 1),
		message(0, 33, "x@example.com", "allow"), message(0, 33, "<>", "allow"),
		attempt(0, 0, "cron.service", "192.0.2.1:587", 5), attempt(0, 0, "session-3.scope", "192.0.2.1:587", 4),
		container, account, nameless, attempt(0, 105, "postfix@-.service", "192.0.2.1:25", 2),
		forwarded(0, "172.17.0.2:1000", "", "192.0.2.1:25"), forwarded(0, "172.17.0.3:1000", strings.Repeat("5e", 32), "192.0.2.1:25"),
	}
	for i := range 20 {
		events = append(events, attempt(time.Minute, 106, "exim4.service", "192.0.3."+string(rune('0'+i%10))+":25", 1))
	}
	return events
}

func TestProposal(t *testing.T) {
	got := planOf(options(), everybody()...).Proposal
	golden := filepath.Join("testdata", "proposal.toml")
	if os.Getenv("SMTPWALL_WRITE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// load is what smtpwall makes of a text.
func load(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, problems := config.Parse("smtpwall.toml", []byte(text), config.Options{})
	for _, problem := range problems {
		if !strings.Contains(problem.Message, "there is no [[account]]") {
			t.Errorf("%s: %s", problem.Severity, problem)
		}
	}
	if cfg == nil {
		t.Fatalf("it cannot be used:\n%s", text)
	}
	return cfg
}

// uncommented has the proposals taken out of their comments.
func uncommented(text string) string {
	return regexp.MustCompile(`(?m)^# (\[\[|(name|match|decision|senders|user|uid|unit|destination) *=)`).ReplaceAllString(text, "$1")
}

// What is proposed can be pasted, as it is and with all that is in comments.
func TestProposalLoads(t *testing.T) {
	p := planOf(options(), everybody()...)
	cfg := load(t, "mode = \"enforce\"\n"+p.Proposal)
	if len(cfg.Policy.Rules) != 5 || len(cfg.Firewall.Allow) != 0 {
		t.Errorf("%d rules, %d direct connections in\n%s", len(cfg.Policy.Rules), len(cfg.Firewall.Allow), p.Proposal)
	}
	for _, rule := range cfg.Policy.Rules {
		if rule.Decision != config.Allow {
			t.Errorf("rule %s: %s", rule.Name, rule.Decision)
		}
	}
	cfg = load(t, "mode = \"enforce\"\n[policy]\ndefault = \"deny\"\n"+uncommented(p.Proposal))
	if len(cfg.Policy.Rules) != 8 || len(cfg.Firewall.Allow) != 5 {
		t.Errorf("%d rules, %d direct connections in\n%s", len(cfg.Policy.Rules), len(cfg.Firewall.Allow), uncommented(p.Proposal))
	}
}

// Names come from strangers, and are nothing but names in the proposal.
func TestHostileNames(t *testing.T) {
	for _, name := range []string{
		"a\"]\n[[policy.rule]]\nname = \"evil\"\nmatch = { user = [\"*\"] }\ndecision = \"allow\"\n#", "a\\", "\x1b[2J", "a\r\nb", "'''", "\u0085x\u2028y",
		"\xff\xfe", "*", "?", "ü\U000e0001", "# x", strings.Repeat("n", 300), "\u007f",
	} {
		user := attempt(0, 33, "cron.service", "192.0.2.1:587", 1)
		user.PeerUser = name
		root := attempt(0, 0, name+".service", "192.0.2.1:587", 1)
		container := attempt(0, 33, name, "192.0.2.1:587", 1)
		container.PeerContainer = name
		account := message(0, 0, "a@"+name, "allow")
		account.PeerUID, account.AuthID = audit.UID{}, name
		o := options()
		o.Decide = func(Identity) (Decision, bool) { return Decision{Result: "deny", Rule: name}, true }
		for _, rules := range [][]string{nil, {"root", name}} {
			o.Rules = rules
			p := planOf(o, user, root, container, account)
			if strings.ContainsFunc(p.Proposal, func(r rune) bool { return r != '\n' && hidden(r) }) {
				t.Errorf("%q: the proposal holds what does not print: %q", name, p.Proposal)
			}
			names := regexp.MustCompile(`(?m)^(\[\[policy.rule\]\])$`).FindAllString(p.Proposal, -1)
			if len(names) > 4 || strings.Contains(p.Proposal, "\nname = \"evil\"") {
				t.Errorf("%q makes rules:\n%s", name, p.Proposal)
			}
			cfg, problems := config.Parse("smtpwall.toml", []byte(p.Proposal), config.Options{})
			for _, problem := range problems {
				if problem.Severity == config.Error {
					t.Fatalf("%q: %s in\n%s", name, problem, p.Proposal)
				}
			}
			if cfg == nil {
				continue
			}
			for _, rule := range cfg.Policy.Rules {
				all := append(append(append(rule.Match.User, rule.Match.Unit...), rule.Match.Account...), rule.Match.Container...)
				for _, pattern := range all {
					if name != "*" && name != "?" && strings.Contains(pattern, "*") {
						t.Errorf("%q: rule %q matches %q", name, rule.Name, pattern)
					}
				}
			}
		}
	}
}

// With rules there already, who is allowed needs none, and the names are other
// ones.
func TestProposalBesideRules(t *testing.T) {
	o := options()
	o.Rules = []string{"www-data", "locals"}
	o.Decide = func(id Identity) (Decision, bool) {
		if id.User == "root" {
			return Decision{Result: "allow", Rule: "locals"}, true
		}
		return Decision{Result: "deny", Rule: "www-data", Reason: "identity not allowed to send"}, true
	}
	p := planOf(o, attempt(0, 33, "cron.service", "192.0.2.1:587", 1), attempt(0, 0, "cron.service", "192.0.2.1:587", 1))
	for _, want := range []string{
		"# now it is denied by rule \"www-data\": a rule for it must stand before that one.\n[[policy.rule]]\nname     = \"www-data-2\"\n",
		"# root (uid 0) in cron.service: 1 connection would be redirected\n# allowed already by rule \"locals\".\n",
	} {
		if !strings.Contains(p.Proposal, want) {
			t.Errorf("no %q in\n%s", want, p.Proposal)
		}
	}
	if strings.Contains(p.Proposal, "[policy]") || strings.Count(p.Proposal, "\n[[policy.rule]]") != 1 {
		t.Errorf("%s", p.Proposal)
	}
	rules := "[[policy.rule]]\nname = \"www-data\"\nmatch = { user = [\"www-*\"] }\ndecision = \"deny\"\n"
	if cfg, problems := config.Parse("smtpwall.toml", []byte(p.Proposal+rules), config.Options{}); cfg == nil || len(cfg.Policy.Rules) != 2 {
		t.Errorf("%v", problems)
	}
}

func TestNoProposalForNobody(t *testing.T) {
	if p := planOf(options(), mode(0, started)); p.Proposal != "" {
		t.Errorf("%q", p.Proposal)
	}
}

// FuzzProposal: whatever names events have, the proposal loads, and has a rule
// for each sender at most.
func FuzzProposal(f *testing.F) {
	for _, seed := range []string{"www-data", "a\"b", "\\", "*", "\x00\x1b", "x\ny", "session-1.scope", "sshd@*.service", "\xff"} {
		f.Add(seed, seed+".service", seed, "a@"+seed)
	}
	f.Fuzz(func(t *testing.T, user, unit, container, from string) {
		events := []*audit.Event{attempt(0, 33, unit, "192.0.2.1:587", 1), attempt(0, 0, unit, "192.0.2.1:25", 1), message(0, 33, from, "allow")}
		events[0].PeerUser, events[2].PeerUser = user, user
		inside := attempt(0, 33, unit, "192.0.2.1:465", 1)
		inside.PeerContainer = container
		text := planOf(options(), append(events, inside)...).Proposal
		for _, pasted := range []string{text, uncommented(text)} {
			cfg, problems := config.Parse("smtpwall.toml", []byte(pasted), config.Options{})
			if cfg == nil {
				t.Fatalf("%v in\n%s", problems, pasted)
			}
			if len(cfg.Policy.Rules) > 4 {
				t.Fatalf("%d rules in\n%s", len(cfg.Policy.Rules), pasted)
			}
		}
	})
}
