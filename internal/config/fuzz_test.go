package config

import (
	"bytes"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// FuzzParse feeds anything. Parse must not panic, must say which line is to
// blame, must give a Config only without errors, and must never accept what the
// TOML library itself refuses.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*/*.toml", "../../packaging/smtpwall.toml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			f.Fatalf("no seeds at %s: %v", pattern, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		config, problems := Parse("smtpwall.toml", text, Options{SkipSecrets: true})
		if (config == nil) != HasErrors(problems) {
			t.Errorf("config %v with problems:\n%s", config != nil, show(problems))
		}
		lines := bytes.Count(text, []byte("\n")) + 1
		last := 0
		for _, p := range problems {
			if p.Line < max(1, last) || p.Line > lines || p.File != "smtpwall.toml" || p.Message == "" {
				t.Errorf("in %d lines: %+v", lines, p)
			}
			last = p.Line
		}
		again, sameProblems := Parse("smtpwall.toml", text, Options{SkipSecrets: true})
		if !reflect.DeepEqual(config, again) || !reflect.DeepEqual(problems, sameProblems) {
			t.Error("the same text gave another result")
		}
		var document map[string]any
		if err := toml.Unmarshal(bytes.TrimPrefix(text, []byte("\ufeff")), &document); err != nil && config != nil {
			t.Errorf("accepted, though the TOML library says: %v", err)
		}
	})
}

// FuzzParseValues feeds single values, with far fewer characters to guess than
// in a whole file.
func FuzzParseValues(f *testing.F) {
	for _, text := range []string{"50MiB", "1h30m", "127.0.0.1:587", "[::1]:587", "smtp.example.com:587", "vps1.example.net", "*@example.com",
		"$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG", "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
		"600 messages/minute", "5d12h", "admin@example.com",
		"50 new-recipients/10m", "1.5GiB/month", "slow at 80%", "50%", "2027-01-31 00:00:00+01:00", "[2001:db8::/32]:25", "unix:/run/rspamd/milter.sock", "inet:[::1]:11332",
		"https://alerts.example.com:8443/hook", "postfix@-.service", "*.example.net", "192.0.2.0/24", "ns1.example.net:53", "_acme-challenge.example.net.",
		"sha256:0A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9:0A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9", "https://acme-v02.api.letsencrypt.org:443/directory/",
		"$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", "SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA", "/var/lib/smtpwall", "4294967295"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if bytes, err := parseSize(text); err == nil && bytes < 0 {
			t.Errorf("%q: negative size %d", text, bytes)
		}
		if span, err := parseDuration(text); err == nil && span < 0 {
			t.Errorf("%q: negative duration %s", text, span)
		}
		if perSecond, err := parseRate(text); err == nil && (perSecond <= 0 || perSecond > maxRate) {
			t.Errorf("%q: a rate of %g", text, perSecond)
		}
		if checkMailbox(text) == nil && checkAddressPattern(text) != nil && !strings.ContainsAny(text, "*?") {
			t.Errorf("%q is a mailbox, but no address", text)
		}
		if address, err := parseListener(text); err == nil {
			if back, err := parseListener(address.String()); err != nil || back != address {
				t.Errorf("%q: %s reads as %s, %v", text, address, back, err)
			}
		}
		if host, _, err := parseRelayAddress(text); err == nil {
			if again, _, err := parseRelayAddress(host); err != nil || again != host {
				t.Errorf("%q: %s reads as %s, %v", text, host, again, err)
			}
		}
		if limit, err := parseLimit(text); err == nil {
			back, err := parseLimit(limit.String())
			if err != nil || back != limit || limit.Max < 1 || limit.Window < time.Second || limit.Window > 30*day {
				t.Errorf("%q: %s reads as %s, %v", text, limit, back, err)
			}
		}
		if rung, err := parseRung(text); err == nil {
			if back, err := parseRung(rung.String()); err != nil || back != rung {
				t.Errorf("%q: %s reads as %s, %v", text, rung, back, err)
			}
		}
		if part, err := parseShare(text); err == nil && (part <= 0 || part > 1) {
			t.Errorf("%q: a share of %g", text, part)
		}
		if host, port, err := parseDestination(text); err == nil {
			if again, _, err := parseDestination(net.JoinHostPort(host, strconv.Itoa(int(port)))); err != nil || again != host {
				t.Errorf("%q: %s reads as %s, %v", text, host, again, err)
			}
		}
		if network, address, err := parseMilter(text); err == nil && (network != "unix" && network != "tcp" || address == "") {
			t.Errorf("%q: %s %s", text, network, address)
		}
		if pin, err := parsePin(text); err == nil {
			if back, err := parsePin(pin.String()); err != nil || back != pin {
				t.Errorf("%q: %s reads as %s, %v", text, pin, back, err)
			}
		}
		fuzzCertificates(t, text)
		for _, check := range []func(string) error{checkPath, checkSocketPath, checkHostName, checkPattern, checkSenderPattern, checkPasswordHash, checkSCRAM, checkName, checkWebhook, checkUnitName, checkPlainName, checkAddress, checkKeyID, checkCommonName} {
			_ = check(text)
		}
	})
}

// fuzzCertificates wants that what a value reads as reads as itself.
func fuzzCertificates(t *testing.T, text string) {
	for name, parse := range map[string]func(string) (string, error){
		"certified name": parseCertifiedName, "constraint": parseConstraint, "pattern": parseHostPattern, "domain": parseDomain, "name server": parseNameServer,
	} {
		if read, err := parse(text); err == nil {
			if again, err := parse(read); err != nil || again != read || read == "" {
				t.Errorf("%s %q: %q reads as %q, %v", name, text, read, again, err)
			}
		}
	}
	if fingerprint, err := parseFingerprint(text); err == nil {
		if back, err := parseFingerprint("sha256:" + hex.EncodeToString(fingerprint[:])); err != nil || back != fingerprint {
			t.Errorf("%q: %x reads as %x, %v", text, fingerprint, back, err)
		}
	}
	if checkDirectoryURL(text) == nil && !strings.HasPrefix(sameDirectory(text), "http") {
		t.Errorf("%q: %s", text, sameDirectory(text))
	}
}
