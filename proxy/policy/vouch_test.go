package policy

import "testing"

func TestVouches(t *testing.T) {
	site := func(senders ...string) []Rule {
		return []Rule{{Name: "sites", Match: Match{User: []string{"www-data"}}, Senders: senders, Decision: Allow}}
	}
	for _, c := range []struct {
		name  string
		rules []Rule
		path  string
		want  bool
	}{
		{"named", site("*@example.com"), "shop@example.com", true},
		{"named, other case", site("*@Example.COM"), "Shop@example.com", true},
		{"one address", site("shop@example.com"), "shop@example.com", true},
		{"address literal", site("*@[192.0.2.1]"), "a@[192.0.2.1]", true},
		{"single label", site("*@intranet"), "a@intranet", true},
		{"below a named domain", site("*@*.example.com"), "a@shop.example.com", true},
		{"U-label for A-label", site("*@münchen.example"), "a@xn--mnchen-3ya.example", true},
		{"foreign", site("*@example.com"), "victim@example.net", false},
		{"suffix only", site("*@example.com"), "victim@notexample.com", false},
		{"null reverse-path", site("*@example.com", "<>"), "", false},
		{"null reverse-path, all", site("*"), "", false},
		{"no domain", site("*@example.com"), "root", false},
		{"all", site("*"), "shop@example.com", false},
		{"no senders", site(), "shop@example.com", false},
		{"any domain", site("*@*"), "shop@example.com", false},
		{"any domain, longer", site("*@?*"), "shop@example.com", false},
		{"a name at any domain", site("noreply@*"), "noreply@example.com", false},
		{"any of a top level", site("*@*.com"), "shop@example.com", false},
		{"any top level", site("*@example.*"), "shop@example.com", false},
		{"half a label", site("*@*ample.com"), "shop@example.com", false},
		{"any literal", site("*@[*]"), "a@[192.0.2.1]", false},
		{"catch-all beside a name, named", site("*", "*@example.com"), "shop@example.com", true},
		{"catch-all beside a name, other", site("*", "*@example.com"), "victim@example.net", false},
		{"denied", []Rule{{Name: "no", Match: Match{User: []string{"www-data"}}, Senders: []string{"*@example.com"}}}, "shop@example.com", false},
		{"no rule for it", []Rule{{Name: "x", Match: Match{User: []string{"x"}}, Senders: []string{"*@example.com"}, Decision: Allow}}, "shop@example.com", false},
		{"no rules at all", nil, "shop@example.com", false},
		{"host, no rules", nil, "www-data@VPS1.example.net", true},
		{"host, catch-all", site("*"), "www-data@vps1.example.net", true},
		{"host, not among the senders", site("*@example.com"), "www-data@vps1.example.net", false},
		{"host, denied", []Rule{{Name: "no"}}, "www-data@vps1.example.net", false},
		{"below the host", nil, "a@x.vps1.example.net", false},
	} {
		p := newPolicy(t, Deny, c.rules...)
		if got := p.Vouches(www, "submission", c.path, "", "vps1.example.net"); got != c.want {
			t.Errorf("%s: %v for %q", c.name, got, c.path)
		}
	}
	if newPolicy(t, Allow).Vouches(unknown, "submission", "a@vps1.example.net", "vps1.example.net") {
		t.Error("unknown is vouched for")
	}
	if newPolicy(t, Allow, site("*@example.com")...).Vouches(root, "submission", "shop@example.com") {
		t.Error("the default vouches for a foreign sender")
	}
}

// Whom it vouches for may send from there: a notice never reaches further than
// the identity itself.
func FuzzVouches(f *testing.F) {
	f.Add("*@example.com", "shop@example.com", "vps1.example.net")
	f.Add("*", "a@b", "b")
	f.Add("<>", "", "")
	f.Fuzz(func(t *testing.T, sender, path, host string) {
		p, err := New(Deny, []Rule{{Name: "r", Match: Match{User: []string{"www-data"}}, Senders: []string{sender}, Decision: Allow}})
		if err != nil {
			return
		}
		if !p.Vouches(www, "submission", path, host) {
			return
		}
		if path == "" || p.Sender(www, "submission", path).Result != Allow {
			t.Errorf("vouches for %q, which senders %q do not allow", path, sender)
		}
		if p.Vouches(unknown, "submission", path, host) {
			t.Errorf("vouches for unknown at %q", path)
		}
	})
}
