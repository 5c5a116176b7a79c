package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/internal/plan"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// observed is a configuration with logs of three days, today's and a rotated
// one, of a host that redirects.
func observed(t *testing.T, policy string) (path string) {
	t.Helper()
	path = file(t, "[audit]\ndirectory = \"DIR\"\n[listen]\nadmin = \"DIR/a\"\n"+policy)
	at := func(days int) string {
		return time.Now().Add(time.Duration(days) * 24 * time.Hour).UTC().Format(time.RFC3339Nano)
	}
	attempt := func(days int, rest string) string {
		return fmt.Sprintf(`{"time":%q,"kind":"attempt",%s}`+"\n", at(days), rest)
	}
	old := fmt.Sprintf(`{"time":%q,"kind":"mode","outcome":"observe","reason":%q}`+"\n", at(-3), guard.ReasonStarted) +
		attempt(-3, `"peer_uid":0,"peer_user":"root","peer_unit":"cron.service","destination":"192.0.2.1:25","outcome":"would_block","count":3`) +
		attempt(-2, `"source":"172.17.0.2:4000","destination":"192.0.2.1:587","outcome":"would_block","count":1,"reason":"forwarded from docker0"`)
	fresh := attempt(-1, `"peer_uid":0,"peer_user":"root","peer_unit":"cron.service","destination":"192.0.2.9:587","outcome":"would_redirect","count":2`) +
		attempt(-1, `"peer_uid":4711,"destination":"192.0.2.9:587","outcome":"would_redirect","count":1`) + "garbage\x1b\n"
	messages := fmt.Sprintf(`{"time":%q,"kind":"transaction","peer_uid":4711,"reverse_path":"a@example.com","decision":"allow"}`+"\n", at(-1))
	directory := filepath.Dir(path)
	keepLog(t, filepath.Join(directory, "attempts.jsonl.2.gz"), 1, old)
	for name, text := range map[string]string{"attempts.jsonl": fresh, "transactions.jsonl": messages} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestPlan(t *testing.T) {
	g := inMode("observe")
	g.status.Allow = []guard.AllowStatus{{Who: "user postfix", Destination: "192.0.2.7:25", Count: 8}}
	g.serve(t)
	path := observed(t, "[[policy.rule]]\nname = \"cron\"\nmatch = { unit = [\"cron.service\"] }\ndecision = \"deny\"\n")
	status, out, err := run(t, "", "plan", "--config", path)
	if status != exitDone || !strings.Contains(err, `attempts.jsonl, line 3: `) || strings.Contains(err, "\x1b") {
		t.Errorf("%d, %q", status, err)
	}
	for _, want := range []string{
		"mode observe\nwatched: 3d, from ", " to now\n",
		"enforcing would refuse 4 connections, redirect 3 to smtpwall, and leave 0 alone\n",
		"left alone already, not counted here: user postfix to 192.0.2.7:25: 8 connections\n",
		"root (uid 0) in cron.service\n  refuse    3: 192.0.2.1:25 (3)\n  redirect  2: 192.0.2.9:587 (2)\n",
		"  policy    deny: identity not allowed to send \"cron\"\n",
		"uid 4711\n  redirect  1: 192.0.2.9:587 (1)\n  submitted 1 allowed; from *@example.com (1)\n  policy    deny: no rule for this identity\n",
		"behind this host: 172.17.0.2\n  refuse    1: 192.0.2.1:587 (1)\n  seen      ",
		"what may be missing:\n  - it was watched for less than 8 days: weekly and monthly jobs may be missing\n  - 1 lines of the logs could not be read\n",
		"to paste into " + path + ":\n\n# A proposal",
		"# now it is denied by rule \"cron\": a rule for it must stand before that one.\n[[policy.rule]]\nname     = \"root\"\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	proposal := out[strings.Index(out, "# A proposal"):]
	cfg, problems := config.Parse("pasted", []byte(proposal), config.Options{})
	if cfg == nil || len(cfg.Policy.Rules) != 2 {
		t.Errorf("%v", problems)
	}
}

func TestPlanJSON(t *testing.T) {
	noGuard(t)
	path := observed(t, "[[firewall.allow]]\nuser = \"root\"\ndestination = \"192.0.2.0/28:25\"\n"+
		"[[firewall.allow]]\nuid = 4711\ndestination = \"192.0.2.9:587\"\nuntil = 2020-01-01T00:00:00Z\n")
	status, out, err := run(t, "", "plan", "--json", "--config", path)
	var p plan.Plan
	if jsonErr := json.Unmarshal([]byte(out), &p); jsonErr != nil || status != exitDone {
		t.Fatalf("%d, %v, %q, %s", status, jsonErr, err, out)
	}
	if p.Refused != 1 || p.Redirected != 3 || p.Allowed != 3 || len(p.Identities) != 3 || p.Watch.Running || len(p.Missing) != 3 {
		t.Errorf("%+v", p)
	}
	for _, e := range p.Identities {
		if e.User == "root" && (e.Allowed != 3 || e.Destinations[0].By != "user root to 192.0.2.0/28:25" || e.Decision == nil || e.Decision.Result != "allow") {
			t.Errorf("%+v", e)
		}
	}
	status, out, _ = run(t, "", "plan", "--json", "--since", "30h", "--config", path)
	if err := json.Unmarshal([]byte(out), &p); err != nil || status != exitDone || p.Redirected != 3 || p.Allowed+p.Refused != 0 || p.Watch.Cut {
		t.Errorf("the last 30 hours: %d, %v, %+v", status, err, p)
	}
}

func TestPlanOfNothing(t *testing.T) {
	noGuard(t)
	path := file(t, "[audit]\ndirectory = \"DIR/none\"\n")
	status, out, err := run(t, "", "plan", "--config", path)
	if status != exitFailed || out != "" || !strings.Contains(err, "nothing was observed yet: ") || !strings.Contains(err, "\nhint: the guard records attempts") {
		t.Errorf("%d, %q, %q", status, out, err)
	}
	quiet := logs(t, "", "")
	status, out, err = run(t, "", "plan", "--config", quiet)
	if status != exitDone || err != "" || !strings.HasPrefix(out, "mode unknown: no guard is running\nwatched: never\n") ||
		!strings.HasSuffix(out, "\nnothing to propose: nobody was seen\n") {
		t.Errorf("%d, %q, %q", status, out, err)
	}
	if status, _, err := run(t, "", "plan", "now"); status != exitUsage || !strings.Contains(err, `unexpected argument "now"`) {
		t.Errorf("%d, %q", status, err)
	}
}

// A host of many is told in a few lines, and nothing of it is left out of the
// counts.
func TestPlanOfMany(t *testing.T) {
	inMode("observe").serve(t)
	path := file(t, "[audit]\ndirectory = \"DIR\"\n")
	var text strings.Builder
	for uid := range 150 {
		for n := range 10 {
			fmt.Fprintf(&text, `{"time":"2026-01-02T03:04:05Z","kind":"attempt","peer_uid":%d,"destination":"192.0.2.%d:25","outcome":"would_block","count":%d}`+"\n", 5000+uid, n, n+1)
		}
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "attempts.jsonl"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, err := run(t, "", "plan", "--config", path)
	if status != exitDone || err != "" || strings.Count(out, "\n  refuse    55: 192.0.2.9:25 (10), 192.0.2.8:25 (9), 192.0.2.7:25 (8), 192.0.2.6:25 (7) and 6 others\n") != maxPlanned ||
		!strings.Contains(out, "\nand 50 more: --json has all\n") || !strings.Contains(out, "would refuse 8250 connections, ") {
		t.Errorf("%d, %q, %.3000s", status, err, out)
	}
}

func TestOwnerOf(t *testing.T) {
	root := plan.Identity{Kind: plan.KindUser, UID: audit.KnownUID(0), Unit: "cron.service"}
	other := plan.Identity{Kind: plan.KindUser, UID: audit.KnownUID(4711)}
	contained := plan.Identity{Kind: plan.KindContainer, Container: "x", Unit: "cron.service"}
	for _, test := range []struct {
		entry                  config.AllowEntry
		text                   string
		root, other, contained bool
	}{
		{config.AllowEntry{User: "root"}, "user root", true, false, false},
		{config.AllowEntry{UID: "4711"}, "uid 4711", false, true, false},
		{config.AllowEntry{Group: "root"}, "group root", true, false, false},
		{config.AllowEntry{Unit: "cron.service"}, "unit cron.service", true, false, true},
	} {
		who, text, err := ownerOf(&test.entry)
		if err != nil || text != test.text {
			t.Fatalf("%q, %v", text, err)
		}
		for range 2 { // what was found out once is remembered
			if who(&root) != test.root || who(&other) != test.other || who(&contained) != test.contained {
				t.Errorf("%s: %v, %v, %v", text, who(&root), who(&other), who(&contained))
			}
		}
	}
	for _, entry := range []config.AllowEntry{{User: "no-such-user-here"}, {Group: "no-such-group-here"}} {
		if _, _, err := ownerOf(&entry); err == nil {
			t.Errorf("%+v has an owner", entry)
		}
	}
}

func TestNetworksOf(t *testing.T) {
	for host, want := range map[string]string{
		"192.0.2.0/24": "192.0.2.0/24", "192.0.2.7": "192.0.2.7/32", "2001:db8::7": "2001:db8::7/128", "localhost": "127.0.0.1/32",
	} {
		networks, err := networksOf(t.Context(), host)
		if err != nil || !strings.Contains(fmt.Sprint(networks), want) {
			t.Errorf("%s: %v, %v", host, networks, err)
		}
	}
}
