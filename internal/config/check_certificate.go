package config

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// sourceKeys are the keys of [certificates] that belong to one source.
var sourceKeys = []struct {
	source CertificateSource
	keys   []string
}{
	{SourceFiles, []string{"certificate", "key"}},
	{SourceACME, []string{"names", "email", "directory", "ca", "eab_key_id", "eab_key", "preferred_chain", "profile",
		"challenge", "http_port", "tls_alpn_port", "web_root", "hook", "dns", "fallback"}},
}

func (d *decoder) checkCertificates() {
	at, c := d.table("certificates"), d.config.Certificates
	if d.blames(at.at("source")) && at.has("source") {
		return // nobody knows which keys belong here
	}
	d.checkSourceKeys(at)
	switch c.Source {
	case SourceFiles:
		for _, key := range sourceKeys[0].keys {
			if !at.has(key) {
				d.wrong(at.at(key), flaw{`is missing, but source = "files"`, fmt.Sprintf("write %s = \"/etc/smtpwall/%s.pem\"", key, key)})
			}
		}
	case SourceACME:
		d.checkCertified(at)
		d.checkChallenge(at)
		d.checkChallengePorts(at)
		d.checkIssuers(at)
		if c.Challenge == ChallengeDNS {
			d.checkUpdate()
		}
	}
	d.checkConstraints(at)
}

// checkSourceKeys refuses what belongs to another source.
func (d *decoder) checkSourceKeys(at ref) {
	for _, owned := range sourceKeys {
		for _, key := range owned.keys {
			if owned.source != d.config.Certificates.Source && at.has(key) && !d.blames(at.at(key)) {
				d.wrong(at.at(key), flaw{fmt.Sprintf("has no effect with source = %q", d.config.Certificates.Source),
					fmt.Sprintf("write source = %q, or remove it", owned.source)})
			}
		}
	}
}

// checkCertified refuses names that no CA certifies.
func (d *decoder) checkCertified(at ref) {
	c := d.config.Certificates
	refuse := func(at place, name string) {
		if err := c.Certifiable(name); err != nil {
			d.wrong(at, asFlaw(err))
		}
	}
	for _, name := range c.Names {
		refuse(at.element("names", name), name)
		if strings.HasPrefix(name, "*.") && c.Challenge != ChallengeDNS {
			d.wrong(at.element("names", name), flaw{fmt.Sprintf("%q is certified by dns-01 alone", name), `write challenge = "dns-01", or name the hosts`})
		}
	}
	switch {
	case len(c.Names) > 0 || d.blames(at.at("names")):
	case at.has("names"):
		d.wrong(at.at("names"), flaw{"is an empty list, so nothing would be certified", "remove it for the host's name"})
	case d.config.Host.Name != "":
		refuse(d.table("host").at("name"), strings.ToLower(d.config.Host.Name))
	}
}

// checkChallenge looks for what the challenge needs, and what only others do.
func (d *decoder) checkChallenge(at ref) {
	c := d.config.Certificates
	if d.blames(at.at("challenge")) && at.has("challenge") {
		return
	}
	for _, owned := range []struct {
		key       string
		challenge Challenge
	}{{"web_root", ChallengeHTTP}, {"http_port", ChallengeHTTP}, {"tls_alpn_port", ChallengeTLSALPN}, {"hook", ChallengeDNS}, {"dns", ChallengeDNS}} {
		if c.Challenge != owned.challenge && at.has(owned.key) && !d.blames(at.at(owned.key)) {
			d.wrong(at.at(owned.key), flaw{fmt.Sprintf("has no effect with challenge = %q", c.Challenge),
				fmt.Sprintf("write challenge = %q, or remove it", owned.challenge)})
		}
	}
	if c.Challenge != ChallengeDNS {
		return
	}
	switch {
	case at.has("dns") && at.has("hook"):
		d.wrong(at.at("hook"), flaw{"there is [certificates.dns] already, and only one of them changes the name servers", "keep one of the two"})
	case !at.has("dns") && !at.has("hook"):
		d.wrong(at.at("challenge"), flaw{"nothing here can change the name servers", "write a table [certificates.dns], or hook = " + commandBinding{program: "/usr/local/sbin/acme-dns"}.sample()})
	case at.has("hook") && len(c.Hook) > 0:
		d.checkProgram(at.at("hook"), c.Hook[0])
	}
}

// checkChallengePorts makes sure that somebody answers the challenge, and
// nobody else in its place.
func (d *decoder) checkChallengePorts(at ref) {
	c := d.config.Certificates
	key, port := "http_port", c.HTTPPort
	switch c.Challenge {
	case ChallengeTLSALPN:
		key, port = "tls_alpn_port", c.TLSALPNPort
	case ChallengeHTTP:
		if c.WebRoot != "" && at.has("http_port") {
			d.wrong(at.at("http_port"), flaw{"has no effect with web_root: a web server answers", "keep one of the two"})
		}
	}
	switch {
	case c.Challenge == ChallengeDNS || c.Challenge == ChallengeHTTP && at.has("web_root"):
		return
	case port == 0 && c.Challenge == ChallengeHTTP:
		d.wrong(at.at(key), flaw{"with port 0 nobody answers http-01", "name a port, or a web_root"})
	case port == 0 && len(d.config.Listen.Submissions) == 0:
		d.wrong(at.at(key), flaw{"with port 0 and no submissions listener nobody answers tls-alpn-01", "name a port, or open submissions of [listen]"})
	}
	if i := slices.IndexFunc(d.config.Listen.all(), func(l netip.AddrPort) bool { return l.Port() == port }); i >= 0 {
		hint := "write another port, or move the listener"
		if c.Challenge == ChallengeTLSALPN && !slices.Contains(d.config.Listen.Submission, d.config.Listen.all()[i]) {
			hint = "write tls_alpn_port = 0: the submissions listeners answer the challenge too"
		}
		d.wrong(at.at(key), flaw{fmt.Sprintf("port %d collides with %s of [listen]", port, d.config.Listen.all()[i]), hint})
	}
}

func (d *decoder) checkIssuers(at ref) {
	issuers := d.config.Certificates.Issuers
	seen := make(map[string]int)
	for i, issuer := range issuers {
		at := at
		if i > 0 {
			if at = d.fallbacks[i-1]; !at.has("directory") {
				d.wrong(at.at("directory"), flaw{"is missing", "write directory = " + quote(LetsEncrypt)})
			}
		}
		d.checkIssuer(issuer, at)
		if issuer.Directory == "" || d.blames(at.at("directory")) && at.has("directory") {
			continue
		}
		same := sameDirectory(issuer.Directory)
		if first, twice := seen[same]; twice {
			d.wrong(at.at("directory"), flaw{fmt.Sprintf("line %d has the same issuer", first), "name another one, or remove it: a CA that failed is asked again later anyway"})
			continue
		}
		seen[same] = at.at("directory").line
	}
}

// checkIssuer checks one CA. What is not said of it is said by `smtpwall check`,
// which asks it.
func (d *decoder) checkIssuer(i Issuer, at ref) {
	switch {
	case at.has("eab_key_id") && !at.has("eab_key"):
		d.wrong(at.at("eab_key"), flaw{"is missing, but there is eab_key_id", "write eab_key = " + secretForms})
	case at.has("eab_key") && !at.has("eab_key_id"):
		d.wrong(at.at("eab_key_id"), flaw{"is missing, but there is eab_key", `write eab_key_id = "kid-1", as the CA tells it`})
	}
	if _, err := base64.RawURLEncoding.DecodeString(i.EABKey.Reveal()); err != nil {
		d.wrong(at.at("eab_key"), flaw{"the secret is not base64url", "put the key there as the CA gives it, without = at its end and nothing else"})
	}
	target, err := url.Parse(i.Directory)
	if err != nil {
		return
	}
	if at.has("ca") && target.Scheme == "http" {
		d.doubt(at.at("ca"), flaw{"has no effect with http", "remove it"})
	}
	if strings.Contains(target.Hostname(), "acme-staging") && strings.HasSuffix(target.Hostname(), "letsencrypt.org") {
		d.doubt(at.at("directory"), flaw{"is for trials: no program trusts the certificates", "write " + quote(LetsEncrypt)})
	}
}

// checkUpdate checks [certificates.dns].
func (d *decoder) checkUpdate() {
	u := d.config.Certificates.DNS
	at := d.table("certificates.dns")
	if at.table == nil {
		return
	}
	if !at.has("server") {
		d.wrong(at.at("server"), flaw{"is missing", `write server = "ns1.example.net:53"`})
	}
	switch {
	case at.has("key") && !at.has("key_name"):
		d.wrong(at.at("key_name"), flaw{"is missing, but there is a key", `write key_name = "smtpwall-acme", as the server has it`})
	case at.has("key_name") && !at.has("key"):
		d.wrong(at.at("key"), flaw{"is missing, but there is a key_name", "write key = " + secretForms})
	case !at.has("key"):
		d.wrong(at.at("key"), flaw{"is missing: a server that takes changes by the address alone takes them from every process of this host",
			"make one: tsig-keygen -a hmac-sha256 smtpwall-acme; then write key_name and key = " + secretForms})
	}
	if _, err := base64.StdEncoding.DecodeString(u.Key.Reveal()); err != nil {
		d.wrong(at.at("key"), flaw{"the secret is not base64", "put the key there as tsig-keygen prints it between the quotes, and nothing else"})
	}
}

// maxConstraints keeps the local CA's certificate small enough for whoever reads
// it; package certs has the same.
const maxConstraints = 256

// checkConstraints warns of names that are asked of the local CA and that it
// will not be able to sign. The host's own it always can.
func (d *decoder) checkConstraints(at ref) {
	c := d.config.Certificates
	if len(c.CANames) == 0 {
		return
	}
	if len(c.CANames) > maxConstraints {
		d.wrong(at.at("ca_names"), flaw{fmt.Sprintf("has %d elements, and %d are possible", len(c.CANames), maxConstraints), "name wider domains or networks"})
	}
	permitted := func(name string) bool {
		return name == strings.ToLower(d.config.Host.Name) ||
			slices.ContainsFunc(c.CANames, func(domain string) bool { return inDomain(strings.TrimPrefix(name, "*."), domain) })
	}
	for _, name := range c.Names {
		if c.Source == SourceACME && !permitted(name) {
			d.doubt(at.element("names", name), flaw{fmt.Sprintf("%q is not covered by ca_names, so the local CA cannot stand in for it", name), "add it there"})
		}
	}
	for _, pattern := range c.RedirectedNames {
		if pattern != "*" && !permitted(pattern) {
			d.doubt(at.element("redirected_names", pattern), flaw{fmt.Sprintf("%q is not covered by ca_names, so the local CA cannot sign it", pattern), "add it there, or remove it here"})
		}
	}
}
