package rules

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestOptionsThatWouldOpenAHoleAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"proxy is root", func(o *Options) { o.ProxyUID = 0 }, "root must be blocked"},
		{"port 25 redirected", func(o *Options) { o.Redirect = map[uint16]uint16{25: 587} }, "port 25 cannot be redirected"},
		{"listener port 0", func(o *Options) { o.Redirect = map[uint16]uint16{587: 0} }, "redirected to port 0"},
		{"relay without port", func(o *Options) { o.Relays = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")} }, "relay"},
		{"relay everywhere", func(o *Options) { o.Relays = []netip.AddrPort{netip.MustParseAddrPort("[::]:587")} }, "relay"},
		{"the proxy is allowed", func(o *Options) { o.Allow = []Allow{allowed(func(a *Allow) { a.ID = o.ProxyUID })} }, "the relays and nothing else"},
		{"nobody is allowed", func(o *Options) { o.Allow = []Allow{allowed(func(a *Allow) { a.ID = nobody })} }, "nobody has that id"},
		{"allowed by address", func(o *Options) { o.Allow = []Allow{allowed(func(a *Allow) { a.Owner = IP4Src })} }, "not an owner"},
		{"any port allowed", func(o *Options) { o.Allow = []Allow{allowed(func(a *Allow) { a.Port = 80 })} }, "open to all anyway"},
		{"no cgroup allowed", func(o *Options) {
			o.Allow = []Allow{allowed(func(a *Allow) { a.Owner, a.CGroups = CGroup0, []uint64{0} })}
		}, "the id 0"},
		{"allowed twice", func(o *Options) { o.Allow = []Allow{allowed(nil), allowed(nil)} }, "is there twice"},
		{"allowed with a name of nft's", func(o *Options) { o.Allow = []Allow{allowed(func(a *Allow) { a.Name = "x { }" })} }, "no name"},
		{"allowed to nowhere", func(o *Options) {
			o.Allow = []Allow{allowed(func(a *Allow) { a.Networks = []netip.Prefix{{}} })}
		}, "is not a network"},
		{"ranges that touch", func(o *Options) { o.Suspended.Ranges = []UIDRange{{5, 9}, {10, 12}} }, "from 10 to 12"},
		{"ranges out of order", func(o *Options) { o.Suspended.Ranges = []UIDRange{{50, 90}, {10, 12}} }, "from 10 to 12"},
		{"a range of nothing", func(o *Options) { o.Suspended.Ranges = []UIDRange{{5, 4}} }, "from 5 to 4"},
		{"a range with nobody", func(o *Options) { o.Suspended.Ranges = []UIDRange{{5, 1<<32 - 1}} }, "from 5 to 4294967295"},
		{"a cgroup suspended that is none", func(o *Options) { o.Suspended.CGroups = []uint64{0} }, "the id 0"},
		{"everything inside", func(o *Options) { o.Inside = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }, "cannot be inside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := goldenOptions()
			c.change(&o)
			for _, f := range []func(Options) (Ruleset, error){New, NewLock} {
				if _, err := f(o); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want one with %q", err, c.want)
				}
			}
		})
	}
}

func allowed(change func(*Allow)) Allow {
	a := Allow{Name: "some", Owner: SKUID, ID: 33, Port: 587, Networks: prefixes("203.0.113.0/24")}
	if change != nil {
		change(&a)
	}
	return a
}

// Nothing of what lets connections pass is there without an entry, and no entry
// costs packets to other ports anything.
func TestNoEntryNoChain(t *testing.T) {
	o := goldenOptions()
	o.Suspended, o.Containers = allowOptions().Suspended, []uint64{77}
	with, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if without := goldens(t)["enforce-redirect"]; with.Render() != without.Render() || len(Diff(with, without)) != 0 {
		t.Errorf("without an entry the rules are\n%s", with.Render())
	}
	allowing := goldens(t)["enforce-allow"]
	for _, name := range []string{chainFilterOut, chainNATOut} {
		c, _ := allowing.Chain(name)
		if len(c.Rules) != 1 {
			t.Errorf("%s has %d rules", name, len(c.Rules))
		}
	}
}

func TestLockIsForEnforceModeOnly(t *testing.T) {
	o := goldenOptions()
	o.Mode = Observe
	if _, err := NewLock(o); err == nil || !strings.Contains(err.Error(), "observe mode has no lock") {
		t.Errorf("error %v", err)
	}
}

func TestEveryJumpHasATargetAndEveryLookupASet(t *testing.T) {
	for name, r := range goldens(t) {
		for _, c := range r.Chains {
			for _, rule := range c.Rules {
				checkReferences(t, name, r, rule)
			}
		}
	}
}

func checkReferences(t *testing.T, name string, r Ruleset, rule Rule) {
	t.Helper()
	chain := func(n string) bool { _, ok := r.Chain(n); return ok || n == "" }
	set := func(n string) bool { _, ok := r.Set(n); return ok }
	for _, term := range rule {
		ok := true
		switch term := term.(type) {
		case Verdict:
			ok = chain(term.Chain)
		case In:
			ok = set(term.Set)
		case InRanges:
			ok = set(term.Set)
		case Update:
			ok = set(term.Set)
		case Count:
			ok = slices.Contains(r.Counters, term.Counter)
		}
		if !ok {
			t.Errorf("%s: rule %q refers to what is not there", name, rule)
		}
	}
}

func TestWithRelaysEqualsNew(t *testing.T) {
	relays := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:2526"), netip.MustParseAddrPort("[2001:db8::9]:465")}
	o := goldenOptions()
	before, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	text := before.Render()
	o.Relays = relays
	want, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if got := before.WithRelays(relays).Render(); got != want.Render() {
		t.Errorf("got\n%s\nwant\n%s", got, want.Render())
	}
	if before.Render() != text {
		t.Error("WithRelays changed the ruleset that it was called on")
	}
}

func TestDiff(t *testing.T) {
	want := goldens(t)["enforce-redirect"]
	for _, c := range []struct {
		name   string
		change func(*Ruleset)
		drift  []string
	}{
		{"nothing", func(*Ruleset) {}, nil},
		{"no table", func(r *Ruleset) { *r = Ruleset{} }, []string{"table inet smtpwall: missing"}},
		{"rule gone", func(r *Ruleset) { r.Chains[0].Rules = r.Chains[0].Rules[:2] },
			[]string{`table inet smtpwall chain refuse_out: missing: meta l4proto tcp counter name "attempts_out" reject with tcp reset`}},
		{"accept inserted", func(r *Ruleset) {
			c := chainOf(r, chainFilterOut)
			c.Rules = append([]Rule{{Verdict{Action: Accept}}}, c.Rules...)
		}, []string{"table inet smtpwall chain filter_output: foreign: accept"}},
		{"rules swapped", func(r *Ruleset) { slices.Reverse(r.Chains[0].Rules) },
			[]string{"table inet smtpwall chain refuse_out: altered: order or number of rules"}},
		{"element gone", func(r *Ruleset) { s := setOf(r, SetMail); s.Elements = s.Elements[1:] },
			[]string{"table inet smtpwall set mail: missing: 25"}},
		{"element added", func(r *Ruleset) {
			s := setOf(r, SetRelay4)
			s.Elements = append(s.Elements, Element{Addr: netip.MustParseAddr("203.0.113.1"), Port: 25})
		}, []string{"table inet smtpwall set relay4: foreign: 203.0.113.1 . 25"}},
		{"hook changed", func(r *Ruleset) { chainOf(r, chainFilterOut).Base = &Base{"filter", "output", 11, "accept"} },
			[]string{"table inet smtpwall chain filter_output: altered"}},
		{"timeout changed", func(r *Ruleset) { setOf(r, SetInbound4).Timeout = 1 }, []string{"table inet smtpwall set inbound4: altered"}},
		{"chain added", func(r *Ruleset) { r.Chains = append(r.Chains, Chain{Name: "x"}) },
			[]string{"table inet smtpwall chain x: foreign"}},
		{"put to sleep", func(r *Ruleset) { r.Others = []string{"flag dormant"} },
			[]string{"table inet smtpwall flag dormant: foreign"}},
		{"counter gone", func(r *Ruleset) { r.Counters = r.Counters[:2] },
			[]string{"table inet smtpwall counter source_clash: missing"}},
		{"times gone", func(r *Ruleset) { r.Closing = false }, []string{"table inet smtpwall ct timeout closing: missing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			have := goldens(t)["enforce-redirect"]
			c.change(&have)
			if got := texts(Diff(have, want)); !slices.Equal(got, c.drift) {
				t.Errorf("drift %q, want %q", got, c.drift)
			}
		})
	}
}

func setOf(r *Ruleset, name string) *Set {
	return &r.Sets[slices.IndexFunc(r.Sets, func(s Set) bool { return s.Name == name })]
}

func chainOf(r *Ruleset, name string) *Chain {
	return &r.Chains[slices.IndexFunc(r.Chains, func(c Chain) bool { return c.Name == name })]
}
