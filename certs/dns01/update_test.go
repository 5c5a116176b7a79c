package dns01

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libdns/libdns"
)

// TestUpdateLife: a value comes, is waited for and goes, and one that somebody
// else has put there stays.
func TestUpdateLife(t *testing.T) {
	n := startPrimary(t, "127.0.0.1")
	u := updateAt("127.0.0.1")
	mine, other := challenge("mail.example.net", "mine"), challenge("mail.example.net", "other")
	const name = "_acme-challenge.mail.example.net"
	for _, c := range []struct {
		do   func() error
		want []string
	}{
		{func() error { return u.Present(within(t), other) }, []string{other.DNS01KeyAuthorization()}},
		{func() error { return u.Present(within(t), mine) }, []string{other.DNS01KeyAuthorization(), mine.DNS01KeyAuthorization()}},
		{func() error { return u.Present(within(t), mine) }, []string{other.DNS01KeyAuthorization(), mine.DNS01KeyAuthorization()}}, // again
		{func() error { return u.Wait(within(t), mine) }, []string{other.DNS01KeyAuthorization(), mine.DNS01KeyAuthorization()}},
		{func() error { return u.CleanUp(within(t), mine) }, []string{other.DNS01KeyAuthorization()}},
		{func() error { return u.CleanUp(within(t), mine) }, []string{other.DNS01KeyAuthorization()}}, // again
		{func() error { return u.CleanUp(within(t), other) }, nil},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		slices.Sort(c.want)
		if got := n.texts(name); !slices.Equal(got, c.want) {
			t.Fatalf("got %q, want %q", got, c.want)
		}
	}
}

// TestUpdatesAtOnce: several certificates for one name are under way.
func TestUpdatesAtOnce(t *testing.T) {
	n := startPrimary(t, "127.0.0.1")
	u := updateAt("127.0.0.1:53")
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			c := challenge("mail.example.net", fmt.Sprint("token", i))
			if err := u.Present(within(t), c); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				return
			}
			if err := u.Wait(within(t), c); err != nil {
				t.Error(err)
			}
			if err := u.CleanUp(within(t), c); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	var want []string
	for i := 0; i < 12; i += 2 {
		c := challenge("mail.example.net", fmt.Sprint("token", i))
		want = append(want, c.DNS01KeyAuthorization())
	}
	slices.Sort(want)
	if got := n.texts("_acme-challenge.mail.example.net"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestUpdateByCNAME: a challenge that is delegated goes where it leads to, by
// whoever knows that.
func TestUpdateByCNAME(t *testing.T) {
	n := startPrimary(t, "127.0.0.1")
	// One that has the zone of the challenges alone, and a resolver beside it.
	apart := startNamed(t, "127.0.0.2", `zone "acme.example.org" { type primary; file "acme"; allow-update { key SmtpWall; }; };`,
		map[string]string{"acme": zoneFile("ns1 A 127.0.0.2")})
	startNamed(t, hostResolver, `
zone "example.net" { type static-stub; server-addresses { 127.0.0.1; }; };
zone "acme.example.org" { type static-stub; server-addresses { 127.0.0.2; }; };`, map[string]string{})
	for name, c := range map[string]struct {
		host, server, zone string
		resolvers          []string
		at                 *server
		target, want       string
	}{
		"the same server":          {"www.example.net", "127.0.0.1", "", nil, n, "www.acme.example.org", ""},
		"through two":              {"far.example.net", "127.0.0.1", "", nil, n, "far.acme.example.org", ""},
		"with the zone":            {"www.example.net", "127.0.0.1", "acme.example.org", nil, n, "www.acme.example.org", ""},
		"another server":           {"www.example.net", "127.0.0.2", "", nil, apart, "www.acme.example.org", ""},
		"another server, its zone": {"far.example.net", "127.0.0.2", "ACME.example.org.", nil, apart, "far.acme.example.org", ""},
		"by a resolver":            {"www.example.net", "127.0.0.2", "", []string{hostResolver}, apart, "www.acme.example.org", ""},
		"in circles":               {"round.example.net", "127.0.0.1", "", nil, n, "", "more than 8 CNAMEs lead on from _acme-challenge.round.example.net"},
		"into another zone":        {"www.example.net", "127.0.0.1", "example.net", nil, n, "", "_acme-challenge.www.example.net is a CNAME to www.acme.example.org, which is not in the zone example.net"},
		"in circles, with a zone":  {"round.example.net", "127.0.0.1", "example.net", nil, n, "", "more than 8 CNAMEs lead on from _acme-challenge.round.example.net"},
		"no CNAME":                 {"mail.example.net", "127.0.0.2", "acme.example.org", nil, n, "", "_acme-challenge.mail.example.net is not in the zone acme.example.org, and no CNAME leads there"},
		"nobody knows":             {"mail.example.net", "127.0.0.2", "", []string{"127.0.0.2", "127.0.0.9"}, n, "", "looking up _acme-challenge.mail.example.net: 127.0.0.2: SERVFAIL; 127.0.0.9: "},
	} {
		t.Run(name, func(t *testing.T) {
			u := updateAt(c.server)
			u.Zone, u.Resolvers = c.zone, c.resolvers
			value := challenge(c.host, name)
			err := u.Present(within(t), value)
			wantError(t, err, c.want)
			if err != nil {
				return
			}
			if got := c.at.texts(c.target); !slices.Equal(got, []string{value.DNS01KeyAuthorization()}) {
				t.Errorf("at %s: %q", c.target, got)
			}
			if err := u.Wait(within(t), value); err != nil {
				t.Error(err)
			}
			if err := u.CleanUp(within(t), value); err != nil {
				t.Error(err)
			}
			if got := c.at.texts(c.target); len(got) > 0 {
				t.Errorf("left %q", got)
			}
		})
	}
}

// TestUpdateRefused: what a real server says, and what to do about it.
func TestUpdateRefused(t *testing.T) {
	startPrimary(t, "127.0.0.1")
	startNamed(t, "127.0.0.2", `zone "acme.example.org" { type secondary; primaries { 127.0.0.1; }; };`, map[string]string{}).awaitZone("acme.example.org")
	for name, c := range map[string]struct {
		change func(*Update)
		host   string
		want   string
	}{
		"allowed":         {func(u *Update) {}, "mail.example.net", ""},
		"sha224":          {func(u *Update) { u.KeyName, u.Algorithm = "small", "hmac-sha224" }, "x.acme.example.org", ""},
		"sha384":          {func(u *Update) { u.KeyName, u.Algorithm = "middle.", "HMAC-SHA384" }, "x.acme.example.org", ""},
		"sha512":          {func(u *Update) { u.KeyName, u.Algorithm = "LARGE", "hmac-sha512." }, "x.acme.example.org", ""},
		"another secret":  {func(u *Update) { u.KeyName = "other" }, "mail.example.net", "the server 127.0.0.1:53 does not accept the signature of the key other (BADSIG): the secret is not the one that the server has"},
		"unknown key":     {func(u *Update) { u.KeyName = "nobody" }, "mail.example.net", "the server 127.0.0.1:53 does not take the key nobody with hmac-sha256 (BADKEY): name the key and its algorithm as the server has them, and allow the key to update TXT at _acme-challenge.mail.example.net"},
		"other algorithm": {func(u *Update) { u.Algorithm = "hmac-sha512" }, "mail.example.net", "the server 127.0.0.1:53 does not take the key smtpwall with hmac-sha512 (BADKEY)"},
		"other name":      {func(u *Update) {}, "web.example.net", "the server 127.0.0.1:53 refused the update (REFUSED): allow the key smtpwall to update TXT at _acme-challenge.web.example.net"},
		"fixed zone":      {func(u *Update) {}, "fixed.example.net", "the server 127.0.0.1:53 refused the update (REFUSED): allow the key smtpwall to update TXT at _acme-challenge.fixed.example.net"},
		"secondary":       {func(u *Update) { u.Server = "127.0.0.2" }, "x.acme.example.org", "the server 127.0.0.2 refused the update (REFUSED)"},
		"nobody there":    {func(u *Update) { u.Server, u.Zone = "127.0.0.9:53", "example.net" }, "mail.example.net", "the server 127.0.0.9:53 does not answer: dial tcp 127.0.0.9:53: connect: connection refused; is its address right, and its TCP port open to this host?"},
		"no such name":    {func(u *Update) { u.Server, u.Zone = "ns.invalid:53", "example.net" }, "mail.example.net", "the server ns.invalid:53 does not answer: dial tcp: lookup ns.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			u := updateAt("127.0.0.1:53")
			c.change(&u)
			wantError(t, u.Present(within(t), challenge(c.host, name)), c.want)
			wantError(t, u.CleanUp(within(t), challenge(c.host, name)), c.want)
			wantError(t, u.Check(within(t), c.host), c.want)
		})
	}
}

// TestUpdateOfAnotherZone than the name is in, or the server has.
func TestUpdateOfAnotherZone(t *testing.T) {
	startPrimary(t, "127.0.0.1")
	for zone, want := range map[string]string{
		"acme.example.org": "the server 127.0.0.1 says that x.example.net is not in the zone acme.example.org (NOTZONE): name the zone that it is in, or none",
		"net":              "the server 127.0.0.1 does not have the zone net (NOTAUTH): name the zone's primary server",
	} {
		_, err := updateAt("127.0.0.1").AppendRecords(within(t), zone, []libdns.Record{libdns.TXT{Name: "x.example.net.", Text: "v"}})
		wantError(t, err, want)
	}
}

// TestUpdateAtTheWrongTime: in the bubble it is the year 2000.
func TestUpdateAtTheWrongTime(t *testing.T) {
	startPrimary(t, "127.0.0.1")
	now := time.Now().UTC()
	synctest.Test(t, func(t *testing.T) {
		u := updateAt("127.0.0.1:53")
		u.Zone = "example.net"
		err := u.Present(t.Context(), challenge("mail.example.net", "late"))
		wantError(t, err, "the clocks of the server 127.0.0.1:53 and of this host differ by more than 5 minutes (BADTIME, there it is "+now.Format("2006-01-02T"))
		wantError(t, err, ", here 2000-01-01T00:00:")
		wantError(t, u.Check(t.Context()), "(BADTIME, there it is ")
	})
}

// TestUpdateByIPv6: the server has no other address.
func TestUpdateByIPv6(t *testing.T) {
	n := startPrimary(t, "::1")
	for _, server := range []string{"::1", "[::1]:53"} {
		u := updateAt(server)
		c := challenge("mail.example.net", server)
		if err := u.Present(within(t), c); err != nil {
			t.Error(err)
		}
		if err := u.Wait(within(t), c); err != nil {
			t.Error(err)
		}
		if got := n.texts("_acme-challenge.mail.example.net"); !slices.Equal(got, []string{c.DNS01KeyAuthorization()}) {
			t.Errorf("got %q", got)
		}
		if err := u.CleanUp(within(t), c); err != nil {
			t.Error(err)
		}
	}
}

// TestCleanUpIsNotCalledOff: the order failed because its context ended.
func TestCleanUpIsNotCalledOff(t *testing.T) {
	n := startPrimary(t, "127.0.0.1")
	u, c := updateAt("127.0.0.1"), challenge("mail.example.net", "x")
	if err := u.Present(within(t), c); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.CleanUp(ended, c); err != nil {
		t.Error(err)
	}
	if got := n.texts("_acme-challenge.mail.example.net"); len(got) > 0 {
		t.Errorf("left %q", got)
	}
}

// TestCheck: it says yes and no, and changes nothing.
func TestCheck(t *testing.T) {
	n := startPrimary(t, "127.0.0.1")
	for name, c := range map[string]struct {
		change func(*Update)
		names  []string
		want   string
	}{
		"nothing":             {func(u *Update) {}, nil, "nothing to check the key with: neither a zone nor a name"},
		"the zone":            {func(u *Update) { u.Zone = "example.net" }, nil, ""},
		"names":               {func(u *Update) {}, []string{"mail.example.net", "*.mail.example.net", "www.example.net"}, ""},
		"another zone":        {func(u *Update) { u.Zone = "mail.example.net" }, nil, "the server 127.0.0.1:53 is not authoritative for mail.example.net (NOERROR)"},
		"no zone of its":      {func(u *Update) { u.Zone = "example.com" }, nil, "the server 127.0.0.1:53 is not authoritative for example.com ("},
		"a name of many":      {func(u *Update) {}, []string{"mail.example.net", "web.example.net"}, "allow the key smtpwall to update TXT at _acme-challenge.web.example.net"},
		"a name of nobody":    {func(u *Update) {}, []string{"mail.example.com"}, "looking up _acme-challenge.mail.example.com: 127.0.0.1:53: SERVFAIL; 127.0.0.53:53: "},
		"a secret of nobody":  {func(u *Update) { u.KeyName, u.Zone = "other", "example.net" }, nil, "(BADSIG)"},
		"a key of nobody":     {func(u *Update) { u.KeyName, u.Zone = "nobody", "example.net" }, nil, "does not take the key nobody with hmac-sha256 (BADKEY): name the key and its algorithm as the server has them"},
		"malformed":           {func(u *Update) { u.Key, u.Zone = "x", "example.net" }, nil, "key: not a secret in base64"},
		"malformed, a server": {func(u *Update) { u.Server, u.Zone = "", "example.net" }, nil, `"" is not host:port`},
	} {
		t.Run(name, func(t *testing.T) {
			before := n.serial("example.net") + n.serial("acme.example.org")
			u := updateAt("127.0.0.1:53")
			c.change(&u)
			wantError(t, u.Check(within(t), c.names...), c.want)
			if after := n.serial("example.net") + n.serial("acme.example.org"); after != before {
				t.Error("a zone has changed")
			}
		})
	}
}

// TestRecords: texts of any length and content arrive as they are.
func TestRecords(t *testing.T) {
	n := startPrimary(t, "127.0.0.1")
	u := updateAt("127.0.0.1")
	long := strings.Repeat("long ", 100)
	records := []libdns.Record{libdns.TXT{Name: "text", TTL: time.Hour, Text: long}, libdns.RR{Type: "TXT", Name: "text", Data: `a "quoted" back\slash`}, libdns.TXT{Name: "@", Text: "apex"}}
	got, err := u.AppendRecords(within(t), "acme.example.org", records)
	if err != nil || len(got) != 3 || got[0].RR() != records[0].RR() {
		t.Fatalf("got %v, %v", got, err)
	}
	if got := n.texts("acme.example.org"); !slices.Equal(got, []string{"apex"}) {
		t.Errorf("got %q", got)
	}
	if got := n.texts("text.acme.example.org"); !slices.Equal(got, []string{`a \"quoted\" back\\slash`, long}) { // as the library reads
		t.Errorf("got %q", got)
	}
	if _, err := u.DeleteRecords(within(t), "acme.example.org.", records[1:]); err != nil {
		t.Error(err)
	}
	if got := n.texts("text.acme.example.org"); !slices.Equal(got, []string{long}) {
		t.Errorf("got %q", got)
	}
	for _, bad := range [][]libdns.Record{nil, {libdns.CNAME{Name: "x", Target: "y."}}, {libdns.RR{Type: "TXT", Name: "text"}}, {libdns.RR{Name: "text"}}} {
		if _, err := u.DeleteRecords(within(t), "acme.example.org.", bad); err == nil {
			t.Errorf("deleted %v", bad)
		}
	}
}

func TestUpdateValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Update)
		want   string
	}{
		"in order": {func(u *Update) {}, ""},
		"with all": {func(u *Update) {
			u.Zone, u.Algorithm, u.Resolvers = "example.net", "hmac-sha512", []string{"::1", "[::1]:5353", "192.0.2.1"}
		}, ""},
		"no server":        {func(u *Update) { u.Server = "" }, `server: "" is not host:port`},
		"no port":          {func(u *Update) { u.Server = "ns1:0" }, `server: "ns1:0" has no port number`},
		"a URL":            {func(u *Update) { u.Server = "https://ns1" }, `server: "https://ns1" is not host:port`},
		"too much port":    {func(u *Update) { u.Server = "ns1:70000" }, `server: "ns1:70000" has no port number`},
		"no key name":      {func(u *Update) { u.KeyName = "" }, `key name: "" is not a domain name`},
		"odd key name":     {func(u *Update) { u.KeyName = "a..b" }, `key name: "a..b" is not a domain name`},
		"odd zone":         {func(u *Update) { u.Zone = "a..b" }, `zone: "a..b" is not a domain name`},
		"md5":              {func(u *Update) { u.Algorithm = "hmac-md5.sig-alg.reg.int" }, `algorithm: "hmac-md5.sig-alg.reg.int" is none of hmac-sha224, hmac-sha256, hmac-sha384 and hmac-sha512`},
		"sha1":             {func(u *Update) { u.Algorithm = "hmac-sha1" }, `algorithm: "hmac-sha1" is none of`},
		"no key":           {func(u *Update) { u.Key = "" }, "key: not a secret in base64, as tsig-keygen prints it"},
		"key in no base64": {func(u *Update) { u.Key = "secret!" }, "key: not a secret in base64, as tsig-keygen prints it"},
		"odd resolver":     {func(u *Update) { u.Resolvers = []string{"192.0.2.1", "a b"} }, `resolvers: "a b" is not host:port`},
	} {
		t.Run(name, func(t *testing.T) {
			u := updateAt("ns1.example.net:53")
			c.change(&u)
			wantError(t, u.Validate(), c.want)
		})
	}
	u := Update{Server: "/", Zone: "a..b", Resolvers: []string{"/"}}
	if err := u.Validate(); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("not everything: %v", err)
	}
}

// TestUpdateHidesItsKey, however it is printed.
func TestUpdateHidesItsKey(t *testing.T) {
	u := updateAt("ns1")
	text, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	printed := string(text) + fmt.Sprintf("%v %+v %#v %s", u, u, &u, u)
	if strings.Contains(printed, secret) || !strings.Contains(printed, "updates at ns1 with the key smtpwall") {
		t.Error(printed)
	}
}
