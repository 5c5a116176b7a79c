package policy

import (
	"fmt"
	"strings"
	"testing"
)

var (
	unknown  = Identity{}
	root     = Identity{Proven: true, UID: 0, User: "root", Groups: []string{"root"}}
	www      = Identity{Proven: true, UID: 33, User: "www-data", Groups: []string{"www-data", "web"}, Unit: "php8.2-fpm.service"}
	nameless = Identity{Proven: true, UID: 100033, Container: "d4f1"}
	account  = Identity{Account: "webshop"}

	// forged has attributes that nobody proved.
	forged = Identity{UID: 0, User: "root", Groups: []string{"root"}, Unit: "cron.service", Container: "c"}
)

func newPolicy(t testing.TB, fallback Result, rules ...Rule) *Policy {
	t.Helper()
	p, err := New(fallback, rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestZeroValuesDeny(t *testing.T) {
	var result Result
	var decision Decision
	var rule Rule
	var ruling Ruling
	asked := ruling.Sender("").Result == Deny && ruling.Recipient("a@b").Result == Deny && ruling.Header(nil).Result == Deny
	if result != Deny || decision.Result != Deny || rule.Decision != Deny || !asked {
		t.Error("a forgotten field allows")
	}
}

func TestWithoutRules(t *testing.T) {
	for _, fallback := range []Result{Deny, Allow} {
		p := newPolicy(t, fallback)
		for _, c := range []struct {
			name string
			id   Identity
			want Decision
		}{
			{"root", root, Decision{Result: Allow, Reason: ReasonProven}},
			{"user", www, Decision{Result: Allow, Reason: ReasonProven}},
			{"nameless", nameless, Decision{Result: Allow, Reason: ReasonProven}},
			{"account", account, Decision{Result: Allow, Reason: ReasonAccount}},
			{"unknown", unknown, Decision{Reason: ReasonUnknown}},
			{"forged", forged, Decision{Reason: ReasonUnknown}},
		} {
			for stage, got := range stages(p, c.id, "submission") {
				if got != c.want {
					t.Errorf("default %v, %s, %s: %+v, want %+v", fallback, c.name, stage, got, c.want)
				}
			}
		}
	}
}

func stages(p *Policy, id Identity, listener string) map[string]Decision {
	return map[string]Decision{
		"session":   p.Session(id, listener),
		"sender":    p.Sender(id, listener, "a@example.com"),
		"null":      p.Sender(id, listener, ""),
		"recipient": p.Recipient(id, listener, "b@example.net"),
		"header":    p.Header(id, listener, []byte("From: a@example.com\r\n")),
	}
}

// TestMatch says for one Match which identities fit it.
func TestMatch(t *testing.T) {
	all := map[string]Identity{
		"unknown": unknown, "root": root, "www": www, "nameless": nameless, "account": account, "forged": forged,
	}
	for _, c := range []struct {
		match Match
		want  string // of all, sorted as in names
	}{
		{Match{}, "root www nameless account"},
		{Match{User: []string{"*"}}, "root www"},
		{Match{User: []string{"www-*", "x"}}, "www"},
		{Match{User: []string{"WWW-data"}}, ""},
		{Match{UID: []string{"*"}}, "root www"},
		{Match{UID: []string{"0"}}, "root"},
		{Match{UID: []string{"1000??"}}, ""},
		{Match{UID: []string{"1000??"}, Container: []string{"d4*"}}, "nameless"},
		{Match{Group: []string{"web"}}, "www"},
		{Match{Group: []string{"*"}}, "root www"},
		{Match{Unit: []string{"php*-fpm.service"}}, "www"},
		{Match{Unit: []string{"*"}}, "www"},
		{Match{Container: []string{"*"}}, "nameless"},
		{Match{Account: []string{"*"}}, "account"},
		{Match{Account: []string{"web?hop"}}, "account"},
		{Match{Listener: []string{"submission"}}, "unknown root www nameless account forged"},
		{Match{Listener: []string{"*"}}, "unknown root www nameless account forged"},
		{Match{Listener: []string{"socket"}}, ""},
		{Match{Listener: []string{"submission"}, UID: []string{"*"}}, "root www"},
		{Match{Listener: []string{"submission"}, Account: []string{"*"}}, "account"},
		{Match{User: []string{"www-data"}, Unit: []string{"cron.service"}}, ""},
		{Match{User: []string{"www-data"}, Unit: []string{"php*"}, Group: []string{"web"}}, "www"},
	} {
		p := newPolicy(t, Deny, Rule{Name: "r", Match: c.match, Decision: Allow})
		var fits []string
		for _, name := range []string{"unknown", "root", "www", "nameless", "account", "forged"} {
			if p.Sender(all[name], "submission", "a@b").Result == Allow {
				fits = append(fits, name)
			}
		}
		if got := strings.Join(fits, " "); got != c.want {
			t.Errorf("%+v fits %q, want %q", c.match, got, c.want)
		}
	}
}

// Root of a container is any uid in it, and none of the host's users.
func TestUIDInAContainer(t *testing.T) {
	inside := Identity{Proven: true, Placed: true, UID: 33, User: "www-data", Groups: []string{"www-data"}, Unit: "docker-d4f1.scope", Container: "d4f1"}
	for _, match := range []Match{{User: []string{"www-data"}}, {UID: []string{"33"}}, {Group: []string{"www-data"}}} {
		allows := newPolicy(t, Deny, Rule{Name: "sites", Match: match, Decision: Allow})
		if allows.Sender(inside, "socket", "a@b").Result == Allow {
			t.Errorf("%+v allows a container's uid", match)
		}
		denies := newPolicy(t, Deny, Rule{Name: "sites", Match: match}, Rule{Name: "rest", Decision: Allow})
		if denies.Sender(inside, "socket", "a@b").Result == Allow {
			t.Errorf("%+v does not deny a container's uid", match)
		}
		match.Unit = []string{"docker-d4f1.scope"}
		named := newPolicy(t, Deny, Rule{Name: "sites", Match: match, Decision: Allow})
		if named.Sender(inside, "socket", "a@b").Result != Allow {
			t.Errorf("%+v does not allow the container that it names", match)
		}
	}
}

// Hiding the unit is no way around a rule that denies it, and none into one
// that allows it.
func TestUnknownUnit(t *testing.T) {
	hidden := Identity{Proven: true, UID: 33, User: "www-data"}
	placed := hidden
	placed.Placed = true
	evil := placed
	evil.Unit = "evil.service"
	unit := Match{Unit: []string{"evil.service"}}
	denies := newPolicy(t, Deny, Rule{Name: "evil", Match: unit}, Rule{Name: "rest", Decision: Allow})
	allows := newPolicy(t, Deny, Rule{Name: "evil", Match: unit, Decision: Allow})
	for _, c := range []struct {
		name            string
		id              Identity
		denied, allowed Result
	}{
		{"from the unit", evil, Deny, Allow},
		{"from none", placed, Allow, Deny},
		{"from nobody knows where", hidden, Deny, Deny},
	} {
		if got := denies.Sender(c.id, "socket", "a@b").Result; got != c.denied {
			t.Errorf("%s, under a rule that denies the unit: %v", c.name, got)
		}
		if got := allows.Sender(c.id, "socket", "a@b").Result; got != c.allowed {
			t.Errorf("%s, under a rule that allows the unit: %v", c.name, got)
		}
	}
}

func TestFirstMatchDecides(t *testing.T) {
	p := newPolicy(t, Allow,
		Rule{Name: "suspended", Match: Match{User: []string{"www-data"}, Unit: []string{"cron.service"}}},
		Rule{Name: "sites", Match: Match{User: []string{"www-data"}}, Decision: Allow, Senders: []string{"*@example.com"}, Relay: "main"},
		Rule{Name: "late", Match: Match{User: []string{"www-data"}}, Decision: Allow},
		Rule{Name: "no-root", Match: Match{UID: []string{"0"}}},
	)
	cron := www
	cron.Unit = "cron.service"
	for _, c := range []struct {
		id     Identity
		sender string
		want   Decision
	}{
		{www, "a@example.com", Decision{Result: Allow, Reason: ReasonRule, Rule: "sites", Relay: "main", CheckHeader: true}},
		{www, "a@example.net", Decision{Reason: ReasonSender, Rule: "sites"}}, // "late" would allow
		{cron, "a@example.com", Decision{Reason: ReasonIdentity, Rule: "suspended"}},
		{root, "a@example.com", Decision{Reason: ReasonIdentity, Rule: "no-root"}},
		{nameless, "a@example.com", Decision{Result: Allow, Reason: ReasonDefault}},
		{unknown, "a@example.com", Decision{Reason: ReasonUnknown}}, // the default is not for unknown
	} {
		if got := p.Sender(c.id, "submission", c.sender); got != c.want {
			t.Errorf("%+v from %s: %+v, want %+v", c.id, c.sender, got, c.want)
		}
	}
	strict := newPolicy(t, Deny, Rule{Name: "r", Match: Match{User: []string{"nobody"}}, Decision: Allow})
	if got, want := strict.Recipient(www, "submission", "a@b"), (Decision{Reason: ReasonNoRule}); got != want {
		t.Errorf("no rule and default deny: %+v, want %+v", got, want)
	}
}

func TestSendersAndRecipients(t *testing.T) {
	for _, c := range []struct {
		patterns, fit, unfit []string // "" is the null reverse-path
	}{
		{nil, []string{"", "a@b", "x"}, nil},
		{[]string{"*"}, []string{"", "a@b", "x"}, nil},
		{[]string{"<>"}, []string{""}, []string{"a@b", "<>", "<>@x"}},
		{[]string{"<>", "*@example.com"}, []string{"", "a@EXAMPLE.com"}, []string{"a@example.net"}},
		{[]string{"*@example.com"}, []string{"a@example.com", "A.B@Example.COM", `"x y"@example.com`, `"a@b"@example.com`},
			[]string{"", "a@sub.example.com", "a@example.com.evil", "a@evilexample.com", "example.com", "@example.com", "a@example.com.", "a@example.com@evil"}},
		{[]string{"*@*.example.com"}, []string{"a@sub.example.com", "a@b.c.example.com"}, []string{"a@example.com", "a@b@evil.com"}},
		{[]string{"shop+*@example.com"}, []string{"Shop+1@example.com", "shop+@example.com"}, []string{"shop@example.com"}},
		{[]string{"shop@example.com"}, []string{`"shop"@example.com`, `SHOP@example.com`}, []string{`"shop "@example.com`, "\u017fhop@example.com"}},
		{[]string{"kate@kelvin.example"}, []string{"KATE@KELVIN.example"}, []string{"\u212aate@kelvin.example", "kate@\u212aelvin.example"}},
		{[]string{"a?@example.com"}, []string{"ab@example.com", "aü@example.com"}, []string{"a@example.com", "abc@example.com"}},
		{[]string{"*@bücher.example"}, []string{"a@xn--bcher-kva.example", "a@BÜCHER.example", "a@XN--BCHER-KVA.example"},
			[]string{"a@bucher.example", "a@xn--bcher.example", "a@bu\u0308cher.example", "a@b\u00adücher.example"}},
		{[]string{"*@XN--bcher-kva.example"}, []string{"a@bücher.example", "a@xn--bcher-kva.example"}, []string{"a@bcher-kva.example"}},
		{[]string{"*@bu\u0308cher.example"}, []string{"a@bücher.example"}, nil}, // as some keyboards write it
		{[]string{"*@*bücher.example"}, []string{"a@meinebücher.example", "a@xn--meinebcher-feb.example"}, nil},
		{[]string{"*@example.com"}, nil, []string{"a@ｅxample.com", "a@exam\u00adple.com", "a@example。com"}},
		{[]string{"*@[192.0.2.1]"}, []string{"a@[192.0.2.1]"}, []string{"a@192.0.2.1"}},
		{[]string{"jürgen@example.com"}, []string{"JÜRGEN@example.com"}, []string{"jurgen@example.com"}},
	} {
		p := newPolicy(t, Deny, Rule{Name: "s", Decision: Allow, Senders: c.patterns})
		for _, address := range c.fit {
			if got := p.Sender(www, "", address); got.Result != Allow {
				t.Errorf("%q does not fit %q: %+v", address, c.patterns, got)
			}
		}
		for _, address := range c.unfit {
			if got := p.Sender(www, "", address); got.Result != Deny || got.Reason != ReasonSender || got.Rule != "s" {
				t.Errorf("%q fits %q: %+v", address, c.patterns, got)
			}
		}
	}
	p := newPolicy(t, Deny, Rule{Name: "r", Decision: Allow, Recipients: []string{"*@example.net", "postmaster@*"}})
	for address, want := range map[string]Result{"a@example.net": Allow, "Postmaster@x": Allow, "a@example.com": Deny, "postmaster": Deny} {
		got := p.Recipient(www, "", address)
		if got.Result != want || want == Deny && got.Reason != ReasonRecipient {
			t.Errorf("recipient %q: %+v, want %v", address, got, want)
		}
	}
}

func TestHeader(t *testing.T) {
	restricted := Rule{Name: "r", Decision: Allow, Senders: []string{"*@example.com", "<>"}}
	loose, all := restricted, restricted
	loose.HeaderFrom, all.Senders = HeaderFromAny, nil
	for _, c := range []struct{ header, want string }{
		{"From: Shop <shop@example.com>\r\nSubject: x\r\n", ReasonRule},
		{"From: a@example.com, b@example.com\r\n", ReasonRule},
		{"From: a@example.com, b@example.net\r\n", ReasonHeaderFrom},
		{"From: a@example.com\r\nFrom: b@example.net\r\n", ReasonHeaderFrom},
		{"From: \"a@example.com\" <b@example.net>\r\n", ReasonHeaderFrom},
		{"From: root\r\n", ReasonHeaderFrom},
		{"From: a@example.com <b@example.com>\r\n", ReasonHeaderInvalid},
		{"From: <>\r\n", ReasonHeaderInvalid},
		{"Subject: x\r\n", ReasonHeaderMissing},
		{"From: nobody:;\r\n", ReasonHeaderMissing},
		{"", ReasonHeaderMissing},
	} {
		got := newPolicy(t, Deny, restricted).Header(www, "", []byte(c.header))
		if got.Reason != c.want || (got.Result == Allow) != (c.want == ReasonRule) || got.Rule != "r" {
			t.Errorf("%q: %+v, want %q", c.header, got, c.want)
		}
		for _, free := range []Rule{loose, all} {
			if got := newPolicy(t, Deny, free).Header(www, "", []byte(c.header)); got.Result != Allow || got.CheckHeader {
				t.Errorf("%q with header_from %q and senders %q: %+v", c.header, free.HeaderFrom, free.Senders, got)
			}
		}
	}
}

func TestNewErrors(t *testing.T) {
	_, err := New(Deny, []Rule{
		{Name: "one", Senders: []string{"example.com", "@b", "a@", "*@b..c", "*@\u2488x.example"}, HeaderFrom: "all"},
		{Name: "two", Match: Match{User: []string{""}, UID: []string{"www-data"}}, Recipients: []string{"<>", ""}},
	})
	if err == nil {
		t.Fatal("New accepts broken rules")
	}
	want := strings.Join([]string{
		`rule "one": senders: "example.com" has no @; for a whole domain write "*@example.com"`,
		`senders: "@b" lacks a side of the @; write * for any`,
		`senders: "a@" lacks a side of the @; write * for any`,
		`senders: "*@b..c": empty label in the domain`,
		`senders: "*@⒈x.example": "⒈x" is not a valid label of a domain`,
		`header_from: "all" is neither "senders" nor "any"`,
		`rule "two": match.user: empty pattern`,
		`match.uid: "www-data" is not a number; match.user takes names`,
		`recipients: "<>" is a reverse-path, never a recipient`,
		`recipients: empty pattern`,
	}, "\n")
	if err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// fifty is fifty rules of which the last fits www.
func fifty() []Rule {
	var rules []Rule
	for i := range 49 {
		rules = append(rules, Rule{
			Name:    fmt.Sprint("r", i),
			Match:   Match{User: []string{fmt.Sprintf("site%d-*", i), fmt.Sprintf("*-site%d", i)}, Unit: []string{"php*-fpm@*.service"}},
			Senders: []string{"*@example.org"}, Decision: Allow,
		})
	}
	return append(rules, Rule{Name: "last", Match: Match{Group: []string{"nobody", "web"}, Unit: []string{"php*-fpm.service"}},
		Senders: []string{"*@example.net", "*@*.example.com"}, Recipients: []string{"*@example.org"}, Decision: Allow})
}

func TestFiftyRulesAllocate(t *testing.T) {
	p := newPolicy(t, Deny, fifty()...)
	if got := p.Sender(www, "submission", "Shop@www.example.com"); got.Result != Allow || got.Rule != "last" {
		t.Fatalf("%+v", got)
	}
	if n := testing.AllocsPerRun(100, func() { p.Sender(www, "submission", "Shop@www.example.com") }); n > 3 {
		t.Errorf("%v allocations for a decision, want at most 3", n)
	}
}

func BenchmarkSenderFiftyRules(b *testing.B) {
	p := newPolicy(b, Deny, fifty()...)
	b.ReportAllocs()
	for b.Loop() {
		p.Sender(www, "submission", "shop@www.example.com")
	}
}

func BenchmarkHeaderFiftyRules(b *testing.B) {
	p := newPolicy(b, Deny, fifty()...)
	header := []byte("Received: from x by y; Sat, 21 Nov 2026 21:00:00 +0000\r\nDate: Sat, 21 Nov 2026 21:00:00 +0000\r\n" +
		"From: \"The Shop\" <shop@www.example.com>\r\nTo: b@example.org\r\nSubject: Hello\r\nMessage-ID: <1@x>\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if p.Header(www, "submission", header).Result != Allow {
			b.Fatal("denied")
		}
	}
}
