package e2e_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

// alert is what a receiver gets.
type alert struct {
	ID, Host, Kind, Identity, Text string
	Time                           time.Time
	Count                          int
	Counts                         map[string]int
	Fields                         map[string]string
}

// webhook is a server outside that takes alerts, as docs/alerts.md describes it.
type webhook struct {
	secret string
	fail   int // how many requests fail first
	mu     sync.Mutex
	alerts []alert
	errs   []string
}

// ServeHTTP takes one alert, if the signature is right.
func (w *webhook) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail > 0 {
		w.fail--
		http.Error(out, "not now", http.StatusServiceUnavailable)
		return
	}
	var a alert
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	switch {
	case err != nil:
		w.errs = append(w.errs, err.Error())
	case r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.URL.Path != "/hook":
		w.errs = append(w.errs, fmt.Sprint(r.Method, r.URL, r.Header))
	case !isSigned(r.Header.Get("Smtpwall-Signature"), body, w.secret):
		w.errs = append(w.errs, "the signature is wrong: "+r.Header.Get("Smtpwall-Signature"))
	}
	w.alerts = append(w.alerts, a)
}

// isSigned is the receiver of docs/alerts.md.
func isSigned(header string, body []byte, secret string) bool {
	parts := map[string]string{}
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(part, "=")
		parts[name] = value
	}
	stamp, err := strconv.ParseInt(parts["t"], 10, 64)
	if err != nil || time.Since(time.Unix(stamp, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write(append([]byte(parts["t"]+"."), body...))
	return hmac.Equal([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(parts["v1"]))
}

// all are those that came so far.
func (w *webhook) all() []alert {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.alerts)
}

// hooks are the configuration of one program and one server for alerts. The
// program puts each into a file of the bed.
func (b *bed) hooks(t testing.TB, w *webhook) string {
	t.Helper()
	listener, err := b.Remote.Listen(netip.AddrPortFrom(foreign4, 8443))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: w, TLSConfig: b.authority.server(t, foreign4), ErrorLog: nil}
	done := make(chan struct{})
	go func() { // ends with the server, below
		defer close(done)
		_ = server.ServeTLS(net.Listener(listener), "", "")
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
	b.writeFor("alert-secret", w.secret+"\n", 0o640, 0, proxyUID)
	b.write("tell", "#!/bin/sh\nexec 3>>"+b.path("told")+"\ncat >&3\necho >&3\nenv >"+b.path("environment")+"\n", 0o755, 0)
	b.writeFor("told", "", 0o600, proxyUID, proxyUID)
	b.writeFor("environment", "", 0o600, proxyUID, proxyUID)
	return `
[[alert]]
exec = ["$DIR/tell", "argument"]
[[alert]]
webhook = "https://` + foreign4.String() + `:8443/hook"
secret = { file = "$DIR/alert-secret" }
ca = "$DIR/relay-ca.pem"
`
}

// told are the alerts that the program got.
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

// awaitAlert waits until both receivers have an alert, and gives it.
func (b *bed) awaitAlert(t testing.TB, w *webhook, kind, identity, text string) (found alert) {
	t.Helper()
	its := func(a alert) bool {
		return a.Kind == kind && a.Identity == identity && strings.Contains(a.Text, text)
	}
	defer func() {
		if t.Failed() {
			t.Logf("the program has %+v", b.told(t))
		}
	}()
	for name, get := range map[string]func() []alert{"program": func() []alert { return b.told(t) }, "webhook": w.all} {
		await(t, fmt.Sprintf("alert %s of %q at the %s", kind, identity, name), func() bool {
			at := slices.IndexFunc(get(), its)
			if at >= 0 {
				found = get()[at]
			}
			return at >= 0
		})
	}
	if found.Host != hostName || found.ID == "" || found.Count != 1 || time.Since(found.Time).Abs() > 2*patience {
		t.Errorf("the alert is %+v", found)
	}
	return found
}

// alertPolicy lets each kind of alarm come about soon.
const alertPolicy = `
[policy]
ladder = ["defer at 100%", "suspend at 300%"]
limits = ["2 messages/hour"]
[policy.breakers]
refused = { action = "report", share = "50%", least = 2, window = "1h", for = "1h" }
senders = { action = "raise", least = 2, window = "1h", for = "1h" }
[[policy.rule]]
name = "free"
match = { uid = [7502] }
decision = "allow"
header_from = "any"
limits = []
[[policy.rule]]
name = "others"
match = { uid = [33, 7501] }
decision = "allow"
header_from = "any"
[[policy.rule]]
name = "raised"
match = { uid = [7503] }
decision = "allow"
header_from = "any"
limits = ["50 messages/hour"]
`

// TestAlerts: what somebody should look at reaches a program and a webhook, once
// each, by a way that is not the mail's.
func TestAlerts(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{idle: true})
	w := &webhook{secret: "of the alerts " + randomWord(), fail: 1}
	b.rewriteAndStart(setup{config: alertPolicy + accountConfig(t) + b.hooks(t, w)})

	// A direct connection that is blocked.
	tries, _, done := b.dial(attempts{from: b.Host, uid: siteUID, to: netip.AddrPortFrom(mx4, 25), count: 1, unit: newUnit(t)})
	checkRefused(t, tries)
	done()
	if a := b.awaitAlert(t, w, "blocked", "uid:33", mx4.String()); a.Fields["peer_user"] != "www-data" {
		t.Errorf("the alert has the fields %v", a.Fields)
	}

	// A limit, again and again, and the suspension that follows.
	b.mustPost(t, 7501, 2)
	for suspended := false; !suspended; {
		_, got := b.postAs(t, 7501)
		suspended = strings.Contains(got.text, "identity suspended")
	}
	b.awaitAlert(t, w, "limit", "uid:7501", "2 messages/hour")
	b.awaitAlert(t, w, "suspension", "uid:7501", "suspended: ")

	// Breakers, one that reports and one that raises.
	b.relay.On(testkit.StepRcpt, relayRefusal("nobody"))
	for _, to := range []string{"nobody1@example.net", "nobody2@example.net", "nobody3@example.net"} {
		b.postAs(t, 7502, to)
	}
	b.awaitAlert(t, w, "breaker", "uid:7502", "breaker refused: ")
	b.checkRaised(t, w)

	// Logins that fail.
	cmd := b.smtplibAs(t, 7504, order{Host: "localhost", Port: 587, TLS: "starttls", CA: b.localCA(), User: accountName, Password: "guessed"})
	mustFail(t, cmd)
	b.awaitAlert(t, w, "login", "uid:7504", "failed")

	// A relay that is down.
	_ = b.relay.Close()
	k := b.talkAs(t, 7502)
	for range 3 {
		k.send(newLetter(), sender, recipient)
	}
	b.awaitAlert(t, w, "relay", "main", "relay main")
	b.checkAlerts(t, w)
}

// rewriteAndStart starts smtpwall with another configuration.
func (b *bed) rewriteAndStart(s setup) {
	b.t.Helper()
	b.rewrite(s)
	b.start(s)
}

// checkRaised: beyond the senders that a breaker lets an identity have, its ladder
// begins higher: its next messages are deferred, with what it is for.
func (b *bed) checkRaised(t *testing.T, w *webhook) {
	k := b.talkAs(t, 7503)
	deferred := false
	var replies []reply
	for _, name := range []string{"anna", "bert", "carl", "dora"} { // "s1" and "s2" would be one
		got := k.send(newLetter(), name+"@shop.example", recipient)
		replies = append(replies, got)
		if deferred = got.code == 450 && strings.Contains(got.text, "sending is restricted"); deferred {
			break
		}
	}
	if !deferred {
		t.Errorf("beyond its senders the identity is not deferred: %+v", replies)
	}
	b.awaitAlert(t, w, "breaker", "uid:7503", "breaker senders: ")
}

// checkAlerts: every alert came once to each, signed, and the program in a clean
// environment.
func (b *bed) checkAlerts(t *testing.T, w *webhook) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.errs) > 0 {
		t.Errorf("of the webhook's requests: %v", w.errs)
	}
	for name, alerts := range map[string][]alert{"program": b.told(t), "webhook": w.alerts} {
		seen := map[string]bool{}
		for _, a := range alerts {
			key := a.Kind + " " + a.Identity + " " + a.Text
			if a.Identity != "" {
				key = a.Kind + " " + a.Identity // the others follow as one with a count
			}
			if strings.ContainsAny(a.Text, "\r\n") {
				t.Errorf("the %s has more than a line: %q", name, a.Text)
			}
			if seen[key] {
				t.Errorf("the %s has heard of %s twice: %+v", name, key, alerts)
			}
			seen[key] = true
		}
	}
	environment := readFile(t, b.path("environment"))
	for line := range strings.Lines(environment) {
		if name, _, _ := strings.Cut(line, "="); !slices.Contains([]string{"PATH", "LANG", "PWD", "OLDPWD", "SHLVL", "_"}, name) {
			t.Errorf("the program's environment has %q", line)
		}
	}
	if strings.Contains(b.run.said.String(), w.secret) {
		t.Error("the secret is in the log")
	}
}

// TestAlertStorm: a flood of alarms is a few alerts, whose counts miss nothing.
func TestAlertStorm(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{idle: true})
	w := &webhook{secret: randomWord()}
	rule := limitRule("many", 7600, `limits = ["1 messages/hour"]`, `ladder = ["defer at 100%"]`)
	var uids []string
	for uid := range 40 {
		uids = append(uids, strconv.Itoa(7600+uid))
	}
	rule = strings.Replace(rule, "[7600]", "["+strings.Join(uids, ", ")+"]", 1)
	b.rewriteAndStart(setup{config: rule + b.hooks(t, w)})
	events := 0
	for uid := range uint32(40) {
		b.mustPost(t, 7600+uid, 1)
		for range 3 {
			if _, got := b.postAs(t, 7600+uid); got.code != 450 {
				t.Fatalf("the client hears %+v", got)
			}
			events++
		}
	}
	await(t, "the alerts of the storm", func() bool { return len(w.all()) >= 20 })
	if err := b.run.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	total, storms := 0, 0
	for _, a := range w.all() {
		total += a.Count
		if a.Kind == "storm" {
			storms++
			if a.Counts["limit"] != a.Count {
				t.Errorf("the storm is %+v", a)
			}
		}
	}
	if n := len(w.all()); n > 25 || storms != 1 || total != events {
		t.Errorf("of %d events there are %d alerts, %d storms, which count %d", events, n, storms, total)
	}
}
