package config

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestParseLimit(t *testing.T) {
	for text, want := range map[string]Limit{
		"100 messages/hour":      {100, Messages, time.Hour},
		"1 message/second":       {1, Messages, time.Second},
		"500 recipients/day":     {500, Recipients, 24 * time.Hour},
		"50 new-recipients/week": {50, NewRecipients, 7 * 24 * time.Hour},
		"1 new-recipient/month":  {1, NewRecipients, 30 * 24 * time.Hour},
		"10 messages/10m":        {10, Messages, 10 * time.Minute},
		"10 messages / 1h30m":    {10, Messages, 90 * time.Minute},
		"10  messages/3d12h":     {10, Messages, 84 * time.Hour},
		"10 messages/30d":        {10, Messages, 30 * 24 * time.Hour},
		"500MiB/day":             {500 << 20, Bytes, 24 * time.Hour},
		"1.5 GiB/hour":           {3 << 29, Bytes, time.Hour},
		"1PB/day":                {}, "1024TiB/day": {1 << 50, Bytes, 24 * time.Hour}, "1025TiB/day": {},
		"1125899906842624 messages/day": {1 << 50, Messages, 24 * time.Hour}, "1125899906842625 messages/day": {},
		"100 messages/720h1s": {}, "100 messages/999ms": {}, "100 messages/1.5s": {100, Messages, 1500 * time.Millisecond},
		"100 Messages/hour": {}, "100 messages/Hour": {}, "100messages/hour": {}, "100 messages per hour": {}, "0x10 messages/hour": {},
		"+1 messages/hour": {}, "1_000 messages/hour": {}, "100 messages//hour": {}, "١ messages/hour": {}, "100 bytes/hour": {}, "100B/hour": {100, Bytes, time.Hour},
	} {
		got, err := parseLimit(text)
		if want == (Limit{}) {
			if err == nil {
				t.Errorf("%q: got %s, want an error", text, got)
			} else if asFlaw(err).hint == "" {
				t.Errorf("%q: no hint", text)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
		if back, err := parseLimit(got.String()); err != nil || back != got {
			t.Errorf("%q: %s reads as %s, %v", text, got, back, err)
		}
	}
}

// TestMost holds what a limit is said to let through in another window against
// a sender that sends as much as it can as early as it can.
func TestMost(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		limit := Limit{1 + random.Int64N(5), Messages, time.Duration(1+random.IntN(20)) * time.Second}
		window := time.Duration(1+random.IntN(60)) * time.Second
		sent := int64(0)
		for at := time.Duration(0); at < window; at += limit.Window {
			sent += limit.Max
		}
		if got := limit.most(window); got != sent {
			t.Fatalf("%s lets %d through in %s, want %d", limit, got, window, sent)
		}
	}
	if got := (Limit{1 << 50, Bytes, time.Second}).most(30 * day); got <= 0 {
		t.Errorf("too much: %d", got)
	}
}

func TestParseRung(t *testing.T) {
	for text, want := range map[string]Rung{
		"slow at 80%": {ActionSlow, 80}, "defer at 100%": {ActionDefer, 100}, "hold  at  1%": {ActionHold, 1}, " suspend at 10000% ": {ActionSuspend, 10_000},
		"slow at 80": {}, "slow at 80 %": {}, "slow at +80%": {}, "Slow at 80%": {}, "slow": {}, "slow at 0%": {}, "slow at 10001%": {}, "slow at 99999999999%": {},
		"deny at 100%": {}, "slow at %": {}, "slow at 0x10%": {}, "slow from 80%": {}, "slow at 80% defer at 100%": {},
	} {
		got, err := parseRung(text)
		if want == (Rung{}) {
			if err == nil || asFlaw(err).hint == "" {
				t.Errorf("%q: got %s, %v, want an error with a hint", text, got, err)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
		if back, err := parseRung(got.String()); err != nil || back != got {
			t.Errorf("%q: %s reads as %s, %v", text, got, back, err)
		}
	}
}

func TestParseShare(t *testing.T) {
	for text, want := range map[string]float64{
		"1%": 0.01, "50%": 0.5, "100%": 1, "": -1, "%": -1, "50": -1, "0%": -1, "101%": -1, "-1%": -1, "12.5%": -1, "50%%": -1, "0.5": -1, "1e1%": -1,
	} {
		got, err := parseShare(text)
		if want < 0 && err == nil || want > 0 && (err != nil || got != want) {
			t.Errorf("%q: got %g, %v, want %g", text, got, err, want)
		}
	}
}

// TestLimitsFor takes a rule's own limits where it states them, none of them
// too.
func TestLimitsFor(t *testing.T) {
	text := "[policy]\nlimits = [\"1 message/hour\"]\nladder = [\"hold at 100%\"]\n" +
		"[[policy.rule]]\nname = \"none\"\nmatch = { uid = [0] }\ndecision = \"allow\"\nlimits = []\n" +
		"[[policy.rule]]\nname = \"own\"\nmatch = { uid = [1] }\ndecision = \"allow\"\nlimits = [\"2 messages/hour\"]\nladder = [\"defer at 100%\"]\n" +
		"[[policy.rule]]\nname = \"default\"\nmatch = { uid = [2] }\ndecision = \"allow\"\n"
	config, problems := Parse("f.toml", []byte(text), Options{})
	if config == nil {
		t.Fatal(show(problems))
	}
	p := &config.Policy
	for i, want := range []struct {
		limits []Limit
		ladder Action
	}{{nil, ActionHold}, {[]Limit{{2, Messages, time.Hour}}, ActionDefer}, {p.Limits, ActionHold}} {
		rule := &p.Rules[i]
		limits, ladder := p.LimitsFor(rule), p.LadderFor(rule)
		if len(limits) != len(want.limits) || len(limits) > 0 && limits[0] != want.limits[0] || ladder[0].Action != want.ladder {
			t.Errorf("%s: got %v and %v", rule.Name, limits, ladder)
		}
	}
	if limits, ladder := p.LimitsFor(nil), p.LadderFor(nil); len(limits) != 1 || limits[0].Max != 1 || ladder[0].Action != ActionHold {
		t.Errorf("without a rule: got %v and %v", limits, ladder)
	}
}
