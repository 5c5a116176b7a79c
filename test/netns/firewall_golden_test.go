package netns_test

import (
	"net/netip"
	"os"
	"testing"

	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// TestFirewallGoldens: what Apply loads, what nft lists, what nft loads from
// the golden text and what Render writes are all the same.
func TestFirewallGoldens(t *testing.T) {
	observe, reject := goldenFirewallOptions(), goldenFirewallOptions()
	observe.Mode = rules.Observe
	reject.SubmissionPorts, reject.Relays = rules.RejectSubmission, nil
	inside := goldenFirewallOptions()
	inside.Inside = []netip.Prefix{
		netip.MustParsePrefix("172.17.0.0/16"), netip.MustParsePrefix("10.1.16.0/20"), netip.MustParsePrefix("2001:db8:c::/64"),
	}
	allow, watch := goldenFirewallOptions(), goldenFirewallOptions()
	goldenAllow(&allow)
	goldenAllow(&watch)
	watch.Mode = rules.Observe
	answers := goldenFirewallOptions()
	answers.DNSAnswers = true
	for _, c := range []struct {
		golden, lock string
		options      rules.Options
	}{
		{"observe", "", observe},
		{"enforce-redirect", "lock-redirect", goldenFirewallOptions()},
		{"enforce-reject", "lock-reject", reject},
		{"enforce-inside", "", inside},
		{"enforce-allow", "lock-allow", allow},
		{"observe-allow", "", watch},
		{"enforce-answers", "lock-redirect", answers},
	} {
		t.Run(c.golden, func(t *testing.T) {
			f := newFirewall(t, nft.Options{Lock: true})
			f.apply(c.options)
			golden := readGolden(t, c.golden)
			if got := f.listTable(rules.Table); got != golden {
				t.Errorf("nft lists\n%s\nwant\n%s", got, golden)
			}
			if c.lock != "" {
				if got, want := f.listTable(rules.LockTable), readGolden(t, c.lock); got != want {
					t.Errorf("nft lists\n%s\nwant\n%s", got, want)
				}
			}
			f.checkLoad(c.options)
			f.load(f.Remote, golden)
			if got := f.run(f.Remote, "", "nft", "list", "table", "inet", rules.Table); got != golden {
				t.Errorf("loaded from the golden text, nft lists\n%s\nwant\n%s", got, golden)
			}
		})
	}
}

// checkLoad: what is read back has no difference, and a table that is not there
// is missing.
func (f *firewall) checkLoad(o rules.Options) {
	f.t.Helper()
	want, err := rules.New(o)
	if err != nil {
		f.t.Fatal(err)
	}
	have, err := f.conn.Load(f.t.Context(), want)
	if err != nil {
		f.t.Fatal(err)
	}
	if drifts := rules.Diff(have, want); len(drifts) > 0 {
		f.t.Errorf("what was loaded differs: %s", drifts[0])
	}
	want.Table = "absent"
	if have, err := f.conn.Load(f.t.Context(), want); err != nil || have.Table != "" {
		f.t.Errorf("loading what is not there gave table %q, %v", have.Table, err)
	}
}

func readGolden(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../rules/testdata/" + name + ".nft")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// goldenAllow adds what the goldens of that name were made with.
func goldenAllow(o *rules.Options) {
	networks := func(texts ...string) (all []netip.Prefix) {
		for _, text := range texts {
			all = append(all, netip.MustParsePrefix(text))
		}
		return all
	}
	o.Allow = []rules.Allow{
		{Name: "postfix_1", Owner: rules.SKUID, ID: 101, Port: 587, Networks: networks("203.0.113.7/32", "203.0.113.200/32", "2001:db8:1::7/128")},
		{Name: "mail_2", Owner: rules.SKGID, ID: 8, Port: 25, Networks: networks("203.0.113.0/24", "10.1.16.0/20", "2001:db8:1::/48")},
		{Name: "unit_3", Owner: rules.CGroup0, Port: 465, Networks: networks("0.0.0.0/0", "::/0")},
		{Name: "absent_4", Owner: rules.SKUID, ID: 0, Port: 2525},
	}
	o.Suspended.UIDs = []uint32{1234, 1001}
	o.Suspended.Ranges = []rules.UIDRange{{First: 100000, Last: 165535}, {First: 231072, Last: 231072}, {First: 4000000000, Last: 4294967294}}
}

// goldenFirewallOptions are those that rules/testdata was made with.
func goldenFirewallOptions() rules.Options {
	return rules.Options{
		Mode:     rules.Enforce,
		ProxyUID: 990,
		Redirect: map[uint16]uint16{465: 465, 587: 587, 2525: 12525},
		Relays: []netip.AddrPort{
			netip.MustParseAddrPort("198.51.100.7:587"), netip.MustParseAddrPort("198.51.100.8:10025"),
			netip.MustParseAddrPort("[2001:db8::7]:587"), netip.MustParseAddrPort("[2001:db8::8]:10025"),
		},
	}
}
