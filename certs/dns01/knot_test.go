package dns01

import (
	"slices"
	"testing"
	"testing/synctest"
)

// startKnot has the zones of startPrimary, as far as they take updates.
func startKnot(t *testing.T, address string) *server {
	t.Helper()
	directory := t.TempDir()
	return startServer(t, address, directory, map[string]string{
		"knot.conf": `server:
    listen: "` + address + `@53"
    rundir: "` + directory + `"
    user: "root:root"
database:
    storage: "` + directory + `"
key:
  - id: smtpwall
    algorithm: hmac-sha256
    secret: "` + secret + `"
  - id: other
    algorithm: hmac-sha256
    secret: "YW5vdGhlciBzZWNyZXQgZm9yIHRlc3RzLCBub3Qgb25l"
acl:
  - id: mail
    key: smtpwall
    action: update
    update-type: [TXT]
    update-owner: name
    update-owner-name: [_acme-challenge.mail]
  - id: all
    key: smtpwall
    action: update
template:
  - id: default
    storage: "` + directory + `"
zone:
  - domain: example.net
    file: example.net
    acl: mail
  - domain: acme.example.org
    file: acme.example.org
    acl: all
  - domain: fixed.example.net
    file: acme.example.org
`,
		"example.net":      zoneFile("ns1 A "+address, "fixed NS ns1", "_acme-challenge.www CNAME www.acme.example.org."),
		"acme.example.org": zoneFile("ns1 A " + address),
	}, "/usr/sbin/knotd", "-c", directory+"/knot.conf")
}

// TestUpdateOfKnot: another server than BIND takes the same updates.
func TestUpdateOfKnot(t *testing.T) {
	k := startKnot(t, "127.0.0.1")
	u := updateAt("127.0.0.1")
	u.Zone = "example.net"
	if err := u.Check(within(t)); err != nil {
		t.Error(err)
	}
	u.Zone = ""
	for host, at := range map[string]string{"mail.example.net": "_acme-challenge.mail.example.net", "www.example.net": "www.acme.example.org"} {
		serial := k.serial("example.net") + k.serial("acme.example.org")
		if err := u.Check(within(t), host); err != nil {
			t.Error(err)
		}
		if k.serial("example.net")+k.serial("acme.example.org") != serial {
			t.Error("the check has changed a zone")
		}
		mine, other := challenge(host, "mine"), challenge(host, "other")
		for _, err := range []error{u.Present(within(t), mine), u.Present(within(t), other), u.Wait(within(t), mine), u.CleanUp(within(t), mine), u.CleanUp(within(t), mine)} {
			if err != nil {
				t.Error(err)
			}
		}
		if got := k.texts(at); !slices.Equal(got, []string{other.DNS01KeyAuthorization()}) {
			t.Errorf("at %s: %q", at, got)
		}
	}
}

// TestUpdateRefusedByKnot: it says no in other words.
func TestUpdateRefusedByKnot(t *testing.T) {
	startKnot(t, "127.0.0.1")
	for name, c := range map[string]struct {
		change func(*Update)
		host   string
		want   string
	}{
		"another secret":  {func(u *Update) { u.Key = "eA==" }, "mail.example.net", "the server 127.0.0.1:53 does not accept the signature of the key smtpwall (BADSIG)"},
		"unknown key":     {func(u *Update) { u.KeyName = "nobody" }, "mail.example.net", "the server 127.0.0.1:53 does not take the key nobody with hmac-sha256 (BADKEY)"},
		"other key":       {func(u *Update) { u.KeyName = "other" }, "mail.example.net", "the server 127.0.0.1:53 does not take the key other with hmac-sha256 (BADKEY)"},
		"other algorithm": {func(u *Update) { u.Algorithm = "hmac-sha512" }, "mail.example.net", "the server 127.0.0.1:53 does not take the key smtpwall with hmac-sha512 (BADKEY)"},
		"other name":      {func(u *Update) {}, "web.example.net", "(BADKEY): name the key and its algorithm as the server has them, and allow the key to update TXT at _acme-challenge.web.example.net"},
		"fixed zone":      {func(u *Update) {}, "fixed.example.net", "and allow the key to update TXT at _acme-challenge.fixed.example.net"},
		"not its zone":    {func(u *Update) { u.Zone = "net" }, "mail.example.net", "the server 127.0.0.1:53 does not have the zone net (NOTAUTH)"},
	} {
		t.Run(name, func(t *testing.T) {
			u := updateAt("127.0.0.1:53")
			c.change(&u)
			wantError(t, u.Present(within(t), challenge(c.host, name)), c.want)
			wantError(t, u.Check(within(t), c.host), c.want)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		u := updateAt("127.0.0.1:53")
		u.Zone = "example.net"
		wantError(t, u.Check(t.Context(), "mail.example.net"), "(BADTIME, there it is ")
	})
}
