package acme_test

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/testkit/pebble"
)

// awaitComplaint waits until `cert status` says why there is no certificate, and
// finds the same in the conditions.
func (b *bed) awaitComplaint(t testing.TB, words string) (c admin.Certificate) {
	t.Helper()
	await(t, "cert status to say "+words, func() bool {
		c = b.certificate(t, "acme", hostName)
		return strings.Contains(c.Error, words)
	})
	if c.Serving || c.ErrorAt.IsZero() || !c.NextTry.After(c.ErrorAt) {
		t.Errorf("cert status says %+v", c)
	}
	if text, _, status := output(b.command("cert", "status")); status != 3 || !strings.Contains(text, words) {
		t.Errorf("cert status ends with status %d, want 3, and prints\n%s", status, text)
	}
	conditions, status := b.conditions(t)
	if text := conditions["certificate "+hostName]; status != 3 || !strings.Contains(text, words) {
		t.Errorf("status %d with the conditions %q", status, conditions)
	}
	return c
}

// awaitWell waits until nothing is to be complained of.
func (b *bed) awaitWell(t testing.TB) {
	t.Helper()
	var conditions map[string]string
	defer func() {
		if t.Failed() {
			t.Logf("the conditions are %v", conditions)
		}
	}()
	await(t, "the conditions to end", func() bool {
		var status int
		conditions, status = b.conditions(t)
		return len(conditions) == 0 && status == 0
	})
	if all, status := b.certificates(t); status != 0 {
		t.Errorf("cert status ends with status %d: %+v", status, all)
	}
}

// reload puts the configuration in force anew.
func (b *bed) reload(t testing.TB) {
	t.Helper()
	before := b.run.said.count(`"msg":"reloaded"`)
	if err := b.run.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	b.run.await(t, `"msg":"reloaded"`, before+1)
}

// blockedWords are Pebble's.
const blockedWords = "Order included an identifier for which issuance is forbidden by policy"

// alertConfig has each alert put into a file of the bed.
const alertConfig = `[[alert]]
exec = ["$DIR/tell"]
`

// TestRefused: what a CA says that refuses is told by all that somebody looks at.
func TestRefused(t *testing.T) {
	t.Parallel()
	s := setup{ca: pebble.Options{Blocked: []string{domain}}, config: acmeConfig + alertConfig}
	b := newBed(t, s)
	b.write("tell", "#!/bin/sh\nexec 3>>"+b.path("told")+"\ncat >&3\necho >&3\n", 0o755, 0)
	b.write("told", "", 0o600, proxyUID)
	b.configure(s)
	b.start()
	b.awaitComplaint(t, blockedWords)
	b.checkMail(t, b.localRoots(t))
	var told []alert
	awaitFor(t, 2*patience, "an alert", func() bool {
		told = b.told(t)
		return slices.ContainsFunc(told, func(a alert) bool {
			return a.Kind == "certificate" && a.Host == hostName && strings.Contains(a.Text, blockedWords) && strings.Contains(a.Text, hostName)
		})
	})
	if len(told) != 1 {
		t.Errorf("the alerts are %+v, want one", told)
	}
}

// alert is what a receiver gets, as docs/alerts.md has it.
type alert struct{ Host, Kind, Identity, Text string }

func (b *bed) told(t testing.TB) (alerts []alert) {
	t.Helper()
	for line := range strings.Lines(readFile(t, b.path("told"))) {
		var a alert
		if json.Unmarshal([]byte(line), &a) == nil { // half a line will be a whole one
			alerts = append(alerts, a)
		}
	}
	return alerts
}

// TestRateLimit: a CA that says how long to wait is not asked before, unless an
// administrator wants it.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	f := &front{}
	b.startFront(t, f)
	f.limit(true, time.Hour)
	b.configure(setup{config: f.config()})
	b.start()
	c := b.awaitComplaint(t, rateLimitWords)
	if wait := c.NextTry.Sub(c.ErrorAt); wait < 59*time.Minute {
		t.Errorf("the next try is after %s, the CA said an hour", wait)
	}
	b.checkMail(t, b.localRoots(t))
	asked := f.refusals()
	stdout, stderr, status := output(b.command("cert", "renew"))
	if status != 1 || !strings.Contains(stdout+stderr, rateLimitWords) {
		t.Errorf("cert renew ended with status %d: %s%s", status, stdout, stderr)
	}
	if got := f.refusals(); got <= asked {
		t.Errorf("cert renew did not ask the CA: %d refusals, before %d", got, asked)
	}
	f.limit(false, 0)
	must(t, b.command("cert", "renew", hostName))
	b.awaitCertificate(t, b.ca.Roots(0), hostName)
	b.awaitWell(t)
}

// TestBadNonces: a CA that does not take every nonce is asked again.
func TestBadNonces(t *testing.T) {
	t.Parallel()
	b := startBed(t, setup{ca: pebble.Options{BadNonces: 30}, config: acmeConfig})
	b.awaitCertificate(t, b.ca.Roots(0), hostName)
	b.awaitWell(t)
}
