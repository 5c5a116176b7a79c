package app

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

func TestExpectations(t *testing.T) {
	cfg := parsed(t, sitesConfig)
	at := time.Date(2027, 1, 31, 8, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name       string
		expect     config.Expect
		want, hint string
	}{
		{"met", config.Expect{User: "root", From: "a@example.com", Decision: config.Deny, Rule: "no-root"}, "", ""},
		{"met, any rule", config.Expect{Account: "shop", To: []string{"a@example.org"}, Decision: config.Allow}, "", ""},
		{"met, unknown", config.Expect{Decision: config.Deny}, "", ""},
		{"met, null reverse-path", config.Expect{User: "www-data", Decision: config.Allow, Rule: "sites"}, "", ""},
		{"denied by the rule", config.Expect{User: "root", From: "a@example.com", Decision: config.Allow},
			`wants allow, gets deny: identity not allowed to send (rule "no-root")`, "smtpwall test --as root --from a@example.com"},
		{"denied for a recipient", config.Expect{User: "www-data", Unit: "php8.2-fpm.service", Listener: config.RoleSocket, From: "a@example.com",
			To: []string{"b@example.net", "b@example.org"}, HeaderFrom: "a@example.com", Decision: config.Allow, Rule: "sites"},
			`wants allow, gets deny at RCPT of b@example.org: recipient not allowed for this identity (rule "sites")`,
			"smtpwall test --as www-data --unit php8.2-fpm.service --listener socket --from a@example.com --to b@example.net --to b@example.org --header-from a@example.com"},
		{"denied for the From field", config.Expect{UID: "33", From: "a@example.com", HeaderFrom: "a@example.org", Decision: config.Allow},
			`wants allow, gets deny at header of a@example.org: From field not allowed for this identity (rule "sites")`,
			"smtpwall test --as uid:33 --from a@example.com --header-from a@example.org"},
		{"another rule", config.Expect{Account: "o'shop", Decision: config.Allow, Rule: "sites"},
			`wants rule "sites" to decide, gets allow: allowed by rule (rule "accounts")`, `smtpwall test --account 'o'\''shop' --from '<>'`},
		{"no rule", config.Expect{Container: "d4f1", Decision: config.Allow}, `wants allow, gets deny: no rule for this identity (no rule)`,
			"smtpwall test --container d4f1 --from '<>'"},
		{"no user", config.Expect{User: "no-such-user", Decision: config.Allow},
			`wants allow, gets deny: no rule for this identity (no rule); no such user on this host: "no-such-user"`, "smtpwall test --as no-such-user --from '<>'"},
		{"unknown", config.Expect{Decision: config.Hold}, `wants hold, gets deny: identity unknown (no rule)`, "smtpwall test --as unknown --from '<>'"},
	} {
		c.expect.Line = 7
		if c.expect.Listener == "" {
			c.expect.Listener = config.RoleSubmission
		}
		cfg.Expects = []config.Expect{c.expect}
		problems := Expectations(cfg, "x.toml", at)
		if c.want == "" {
			if len(problems) > 0 {
				t.Errorf("%s: %v", c.name, problems)
			}
			continue
		}
		want := config.Problem{File: "x.toml", Line: 7, Key: "expect", Message: c.want, Hint: c.hint + " shows each rule and why", Severity: config.Error}
		if len(problems) != 1 || problems[0] != want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, problems, want)
		}
	}
}

func TestParseWho(t *testing.T) {
	for text, want := range map[string]Who{
		"www-data": {User: "www-data"}, "uid:33": {UID: "33"}, "account:shop": {Account: "shop"}, "container:d4f1": {Container: "d4f1"},
		"unit:a.service": {Unit: "a.service"}, "unknown": {},
	} {
		if got, err := ParseWho(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "uid:", "uid:x", "uid:-1", "uid:4294967296", "user:a", "account:"} {
		if got, err := ParseWho(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestWhoIdentity(t *testing.T) {
	for _, who := range []Who{{User: "root"}, {UID: "0"}} {
		id, err := who.Identity()
		if err != nil || !id.Proven || !id.Placed || id.UID != 0 || id.User != "root" || !strings.Contains(strings.Join(id.Groups, " "), "root") {
			t.Errorf("%+v: %+v, %v", who, id, err)
		}
	}
	if id, err := (Who{}).Identity(); err != nil || id.Proven || id.UID != 0 || id.Account != "" {
		t.Errorf("unknown: %+v, %v", id, err)
	}
	if id, err := (Who{Account: "shop"}).Identity(); err != nil || id.Proven || id.Account != "shop" {
		t.Errorf("an account: %+v, %v", id, err)
	}
	// A uid that was not said is nobody's, and not root's.
	if id, err := (Who{Unit: "a.service"}).Identity(); err != nil || !id.Proven || id.UID != noUID || id.User != "" || id.Unit != "a.service" {
		t.Errorf("a unit: %+v, %v", id, err)
	}
	if id, err := (Who{User: "no-such-user"}).Identity(); !errors.Is(err, ErrNoUser) || id.UID != noUID || id.User != "no-such-user" {
		t.Errorf("nobody: %+v, %v", id, err)
	}
}

func TestIdentityThen(t *testing.T) {
	id := IdentityThen(&audit.Event{PeerUID: audit.KnownUID(0), PeerUser: "toor", PeerUnit: "a.service", PeerContainer: "c", AuthID: "shop"})
	if !id.Proven || id.UID != 0 || id.User != "toor" || id.Unit != "a.service" || id.Container != "c" || id.Account != "shop" || len(id.Groups) == 0 {
		t.Errorf("%+v", id)
	}
	if id := IdentityThen(&audit.Event{PeerUser: "root"}); id.Proven || id.User != "" {
		t.Errorf("a name without a proven uid: %+v", id)
	}
}

// A user has as many subordinate uids as it likes, and one room.
func TestKeysOf(t *testing.T) {
	uid, owner := uint32(100033), uint32(1000)
	for _, c := range []struct {
		kept spool.Identity
		want proxy.Keys
	}{
		{spool.Identity{UID: &owner, User: "bob", Unit: "a.service"}, proxy.Keys{Identity: "uid:1000", User: "user:uid:1000", Unit: "unit:a.service"}},
		{spool.Identity{UID: &uid, Owner: &owner}, proxy.Keys{Identity: "uid:1000", User: "user:uid:1000"}},
		{spool.Identity{UID: &uid, Owner: &owner, Container: "c"}, proxy.Keys{Identity: "container:c", Container: "container:c"}},
		{spool.Identity{UID: &owner, Account: "shop", Unit: "session-1.scope"}, proxy.Keys{Identity: "uid:1000", User: "user:uid:1000", Account: "account:shop"}},
		{spool.Identity{Account: "shop"}, proxy.Keys{Identity: "account:shop", Account: "account:shop"}},
		{spool.Identity{User: "nobody-here"}, proxy.Keys{Identity: unstated}},
		{spool.Identity{}, proxy.Keys{Identity: "unknown"}},
	} {
		got := *keysOf(c.kept)
		if stated := c.want.Identity != unstated; stated != slices.Contains(got.Suspendable, c.want.Identity) {
			t.Errorf("%+v: suspendable as %q", c.kept, got.Suspendable)
		}
		if got.Suspendable = nil; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %+v, want %+v", c.kept, got, c.want)
		}
	}
}
