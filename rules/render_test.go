package rules

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldenOptions are those that the files in testdata were made with.
func goldenOptions() Options {
	return Options{
		Mode:     Enforce,
		ProxyUID: 990,
		Redirect: map[uint16]uint16{465: 465, 587: 587, 2525: 12525},
		Relays: []netip.AddrPort{
			netip.MustParseAddrPort("198.51.100.7:587"),
			netip.MustParseAddrPort("198.51.100.8:10025"),
			netip.MustParseAddrPort("[2001:db8::7]:587"),
			netip.MustParseAddrPort("[2001:db8::8]:10025"),
			netip.MustParseAddrPort("[::ffff:198.51.100.7]:587"),
		},
	}
}

// allowOptions are goldenOptions with all kinds of entries.
func allowOptions() Options {
	o := goldenOptions()
	o.Allow = []Allow{
		{Name: "postfix_1", Owner: SKUID, ID: 101, Port: 587, Networks: prefixes("203.0.113.7/32", "203.0.113.200/32", "2001:db8:1::7/128")},
		{Name: "mail_2", Owner: SKGID, ID: 8, Port: 25, Networks: prefixes("203.0.113.0/24", "10.1.16.0/20", "2001:db8:1::/48")},
		{Name: "unit_3", Owner: CGroup0, Port: 465, Networks: prefixes("0.0.0.0/0", "::/0")},
		{Name: "absent_4", Owner: SKUID, ID: 0, Port: 2525},
	}
	o.Suspended = Suspended{UIDs: []uint32{1234, 1001}, Ranges: []UIDRange{{100000, 165535}, {231072, 231072}, {4000000000, 4294967294}}}
	return o
}

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

func goldens(t *testing.T) map[string]Ruleset {
	t.Helper()
	observed, rejecting, inside := goldenOptions(), goldenOptions(), goldenOptions()
	observed.Mode = Observe
	rejecting.SubmissionPorts = RejectSubmission
	rejecting.Relays = nil
	inside.Inside = []netip.Prefix{
		netip.MustParsePrefix("172.17.0.0/16"),
		netip.MustParsePrefix("10.1.16.0/20"),
		netip.MustParsePrefix("2001:db8:c::/64"),
	}
	allowing := allowOptions()
	watching := allowOptions()
	watching.Mode = Observe
	answers := goldenOptions()
	answers.DNSAnswers = true
	from := func(f func(Options) (Ruleset, error), o Options) Ruleset {
		r, err := f(o)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	return map[string]Ruleset{
		"observe":          from(New, observed),
		"enforce-redirect": from(New, goldenOptions()),
		"enforce-reject":   from(New, rejecting),
		"enforce-inside":   from(New, inside),
		"lock-redirect":    from(NewLock, goldenOptions()),
		"lock-reject":      from(NewLock, rejecting),
		"enforce-allow":    from(New, allowing),
		"lock-allow":       from(NewLock, allowing),
		"observe-allow":    from(New, watching),
		"enforce-answers":  from(New, answers),
	}
}

// TestRenderEqualsGolden holds the text against files that test/netns loads
// with nft and lists again.
func TestRenderEqualsGolden(t *testing.T) {
	for name, r := range goldens(t) {
		path := filepath.Join("testdata", name+".nft")
		if *update {
			if err := os.WriteFile(path, []byte(r.Render()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Render(); got != string(want) {
			t.Errorf("%s: rendered\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestObserveNeverDecides(t *testing.T) {
	text := goldens(t)["observe"].Render()
	for _, word := range []string{"reject", "drop", "redirect", " nat "} {
		if strings.Contains(text, word) {
			t.Errorf("observe mode contains %q:\n%s", word, text)
		}
	}
}

// TestOnlyRedirectNeedsConnectionTracking: it is not for us to switch it on, and
// what it says about directions is no ground for a verdict.
func TestOnlyRedirectNeedsConnectionTracking(t *testing.T) {
	tracking := regexp.MustCompile(`\bct `)
	for name, r := range goldens(t) {
		_, redirects := r.Chain(chainNATOut)
		if found := tracking.MatchString(r.Render()); found && !redirects {
			t.Errorf("%s: uses connection tracking", name)
		}
	}
}
