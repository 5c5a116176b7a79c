package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/certs/trust"
)

const testCA = "smtpwall-local-ca-0123abcd"

func trustPlaces() []trust.Place {
	return []trust.Place{
		{Store: "Debian or Alpine", Path: "/anchors", Trusted: []string{testCA}, Current: true, Changed: true, Did: []string{"write /anchors/ca.crt"}},
		{Store: "Java", Path: "/cacerts", Trusted: []string{"debian:" + testCA}, Current: true},
		{Store: "NSS", Path: "/db", User: "alice", Note: "left alone: certutil is not installed"},
		{Store: "NSS", Path: "/db2", User: "bob", Trusted: []string{"smtpwall-local-ca-ffff0000"}, Older: true},
	}
}

// TestTrustText: what was done on stdout, what a person should know on stderr.
func TestTrustText(t *testing.T) {
	advice := []trust.Advice{{For: "Node.js", Text: "in the environment", Lines: []string{"NODE_EXTRA_CA_CERTS=/anchors/ca.crt"}}}
	for _, test := range []struct {
		name, verb string
		dry        bool
		report     trust.Report
		out, err   string
	}{
		{
			"install", "install", false, trust.Report{Name: testCA, Places: trustPlaces()[:3], Advice: advice},
			"Debian or Alpine, /anchors: " + testCA + " is trusted now\nJava, /cacerts: debian:" + testCA + " was trusted already\n",
			"NSS, /db of alice: left alone: certutil is not installed\n\nFor programs that read none of these stores:\n" +
				"Node.js: in the environment\n    NODE_EXTRA_CA_CERTS=/anchors/ca.crt\n",
		},
		{
			"dry run", "install", true, trust.Report{Name: testCA, Places: trustPlaces()[:2]},
			"Debian or Alpine, /anchors: would write /anchors/ca.crt\n", "",
		},
		{
			"remove", "remove", false, trust.Report{Places: []trust.Place{{Store: "Java", Path: "/cacerts", Changed: true}, {Store: "NSS", Path: "/db"}}},
			"Java, /cacerts: no local CA is trusted any more\n", "",
		},
		{"remove nothing", "remove", false, trust.Report{Places: []trust.Place{{Store: "Arch", Path: "/anchors"}}}, "", "nothing had to be changed\n"},
		{
			"status", "status", false, trust.Report{Name: testCA, Places: append(trustPlaces(), trust.Place{Store: "Java", Path: "/old"})},
			"the local CA of this host is " + testCA + "\nDebian or Alpine, /anchors: trusts it\nJava, /cacerts: trusts it\n" +
				"NSS, /db2 of bob: trusts older or other local CAs: smtpwall-local-ca-ffff0000\nJava, /old: trusts no local CA\n",
			"NSS, /db of alice: left alone: certutil is not installed\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			p := trustPrinter{console: &console{out: &out, err: &errs}, verb: test.verb, report: test.report}
			p.options.DryRun = test.dry
			p.text()
			if out.String() != test.out || errs.String() != test.err {
				t.Errorf("stdout\n%s\nwant\n%s\nstderr\n%s\nwant\n%s", &out, test.out, &errs, test.err)
			}
		})
	}
}

// TestTrustOutcome: status is degraded unless the system trusts the CA, and nobody another one.
func TestTrustOutcome(t *testing.T) {
	places := trustPlaces()
	for _, test := range []struct {
		name, verb string
		places     []trust.Place
		err        error
		want       int
	}{
		{"good", "status", places[:3], nil, exitDone},
		{"an older one somewhere", "status", places, nil, exitDegraded},
		{"not in the system's store", "status", []trust.Place{{Store: "Arch"}, places[1]}, nil, exitDegraded},
		{"no store", "status", nil, nil, exitDegraded},
		{"installed", "install", places, nil, exitDone},
		{"partly", "install", places, errors.New("Java, /cacerts: no room"), exitFailed},
		{"two fail", "remove", places, errors.Join(errors.New("Java, /cacerts: no room"), errors.New("NSS, /db: locked")), exitFailed},
	} {
		var errs bytes.Buffer
		c := &console{err: &errs}
		p := trustPrinter{console: c, verb: test.verb, report: trust.Report{Places: test.places}}
		if got := c.status(p.outcome(test.err)); got != test.want {
			t.Errorf("%s: status %d, want %d: %s", test.name, got, test.want, &errs)
		}
		if test.err != nil && !strings.Contains(errs.String(), "smtpwall: error: "+strings.ReplaceAll(test.err.Error(), "\n", "\nsmtpwall: error: ")+"\nhint: ") {
			t.Errorf("%s: %s", test.name, &errs)
		}
	}
}

func TestTrustJSON(t *testing.T) {
	var out bytes.Buffer
	failing := trust.Place{Store: "Java", Path: "/locked", Err: errors.New("no room")}
	p := trustPrinter{console: &console{out: &out}, report: trust.Report{Name: testCA, Places: append(trustPlaces(), failing)}}
	if err := p.json(); err != nil {
		t.Fatal(err)
	}
	var report trustReport
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	last := report.Stores[len(report.Stores)-1]
	if report.LocalCA != testCA || !report.Changed || len(report.Stores) != 5 || last.Error != "no room" || strings.Contains(out.String(), "null") {
		t.Errorf("%s", &out)
	}
}
