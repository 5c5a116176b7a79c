package e2e_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// passwordFiles is the account with its hashes in files, as who keeps secrets out
// of the configuration writes it.
func (b *bed) passwordFiles(t testing.TB, password string) string {
	t.Helper()
	cmd := b.command("account", "hash")
	cmd.Args = cmd.Args[:len(cmd.Args)-2] // it reads no configuration
	cmd.Stdin = strings.NewReader(password + "\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := "[[account]]\nname = \"" + accountName + "\"\n"
	for _, key := range []string{"password", "scram"} {
		found := regexp.MustCompile(`(?m)^` + key + ` *= "([^"]+)"`).FindStringSubmatch(string(out))
		if found == nil {
			t.Fatalf("account hash prints no %s: %s", key, out)
		}
		b.writeFor(key, found[1]+"\n", 0o640, 0, proxyUID)
		lines += fmt.Sprintf("%s = { file = \"$DIR/%s\" }\n", key, key)
	}
	return lines
}

// login tries a password in a session of its own, as somebody.
func (b *bed) login(t testing.TB, uid uint32, password string) (reply, time.Duration) {
	t.Helper()
	k := b.talkAs(t, uid)
	defer k.leave()
	start := time.Now()
	got := k.say("AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+accountName+"\x00"+password)))
	return got, time.Since(start)
}

// TestAccountFiles: hashes of passwords come from files, which a reload reads
// anew and which nobody else may read.
func TestAccountFiles(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{idle: true})
	s := setup{config: b.passwordFiles(t, accountPassword), errors: []string{reloadRefused}}
	b.rewriteAndStart(s)
	for i, mechanism := range []string{"PLAIN", "SCRAM-SHA-256"} {
		l := newLetter()
		got := b.python(t, order{
			Host: "localhost", Port: 587, TLS: "starttls", CA: b.localCA(),
			User: accountName, Password: accountPassword, Mechanism: mechanism, File: b.letterFile(l),
		})
		if _, event := b.arrived(t, l, trace{"account", "ESMTPSA"}); got.Login != 235 || event.AuthID != accountName {
			t.Errorf("%d: by %s smtplib says %+v, the event %+v", i, mechanism, got, event)
		}
	}
	another := "another " + randomWord()
	b.passwordFiles(t, another)
	b.reload(s)
	login := func(password string) []string {
		return b.curl(newLetter(), "smtp://localhost:587", "--ssl-reqd", "--user", accountName+":"+password)
	}
	mustSucceed(t, b.program("curl", login(another)...))
	mustFail(t, b.programAs(7801, "curl", login(accountPassword)...))

	for mode, says := range map[os.FileMode]string{0o644: "password", 0o660: "password"} {
		if err := os.Chmod(b.path("password"), mode); err != nil {
			t.Fatal(err)
		}
		_, stderr, status := b.output("check", "--offline")
		if status != 2 || !strings.Contains(stderr, says) || !strings.Contains(stderr, "hint: ") {
			t.Errorf("with a file of mode %o check ended with %d: %s", mode, status, stderr)
		}
		b.reloadBad(t)
	}
	mustSucceed(t, b.program("curl", login(another)...))
	b.checkSecrets(another)
}

// TestAccountGuessing: who guesses at a password is slowed more and more, in
// whatever session, is told of, and is in the log; others are not slowed.
func TestAccountGuessing(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{idle: true})
	b.writeFor("told", "", 0o600, proxyUID, proxyUID)
	b.write("tell", "#!/bin/sh\nexec cat >>"+b.path("told")+"\n", 0o755, 0)
	s := setup{config: accountConfig(t) + "[[alert]]\nexec = [\"$DIR/tell\"]\nevents = [\"login\"]\n"}
	b.rewrite(s)
	text := strings.Replace(readFile(t, b.path("host.toml")), "[listen]\n", "[listen]\nauth_without_tls = true\n", 1)
	b.write("host.toml", text, 0o644, 0)
	b.start(s)
	for i, least := range []time.Duration{0, time.Second, 2 * time.Second} {
		got, took := b.login(t, 7811, "guessed")
		if got.code != 535 || took < least {
			t.Errorf("guess %d has the reply %+v after %s, want at least %s", i+1, got, took, least)
		}
	}
	if got, took := b.login(t, 7811, accountPassword); got.code != 235 || took < 4*time.Second {
		t.Errorf("after three guesses the right password has the reply %+v after %s", got, took)
	}
	if got, took := b.login(t, 7812, accountPassword); got.code != 235 || took >= 4*time.Second {
		t.Errorf("to somebody else the right password has the reply %+v after %s", got, took)
	}
	event := b.awaitEvent(t, "the guessing", func(e audit.Event) bool { return e.Kind == audit.KindSession && e.PeerUID == audit.KnownUID(7811) })
	if event.Error != "authentication failed" || event.AuthID != "" {
		t.Errorf("the event says %+v", event)
	}
	await(t, "the alert", func() bool { return len(b.told(t)) > 0 })
	if err := b.run.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	said := readFile(t, b.path("told"))
	if !strings.Contains(said, `"kind":"login"`) || !strings.Contains(said, `"identity":"uid:7811"`) || strings.Contains(said, "guessed") || strings.Contains(said, "uid:7812") {
		t.Errorf("the alerts are %s", said)
	}
}

// TestAccountLimits: an account's budget is one, whoever logs in as it and from
// wherever; where nothing else is known, the account is the identity.
func TestAccountLimits(t *testing.T) {
	t.Parallel()
	s := setup{idle: true, container: true, config: quick + "limits = [\"2 messages/hour\"]\n[policy.budgets]\naccount = [\"4 messages/hour\"]\n" + accountConfig(t)}
	b := newBed(t, s)
	b.rewrite(s)
	here := "192.0.2.1:587" // the host on its bridge
	text := strings.Replace(readFile(t, b.path("host.toml")), "[listen]\n", "[listen]\nsubmission = [\"127.0.0.1:587\", \"[::1]:587\", \""+here+"\"]\n", 1)
	b.write("host.toml", text, 0o644, 0)
	b.start(s)
	login := []string{"--ssl-reqd", "--user", accountName + ":" + accountPassword}
	host := func(uid uint32) *exec.Cmd {
		return b.programAs(uid, "curl", b.curl(newLetter(), "smtp://localhost:587", login...)...)
	}
	container := func() *exec.Cmd {
		return lab.AsUser(b.Container.Command(t.Context(), "curl", b.curl(newLetter(), "smtp://"+here, login...)...), siteUID, siteUID)
	}
	mustSucceed(t, container())
	mustSucceed(t, container())
	if said := mustFail(t, container()); !strings.Contains(said, "< 450 4.7.1 limit of 2 messages/hour reached") {
		t.Errorf("in the container curl says:\n%s", said)
	}
	for _, uid := range []uint32{7821, 7822} {
		mustSucceed(t, host(uid))
	}
	if said := mustFail(t, host(7823)); !strings.Contains(said, "< 450 4.7.1 limit of 4 messages/hour reached") {
		t.Errorf("on the host curl says:\n%s", said)
	}
	b.mustPost(t, 7823, 2)
	b.orders(t, 0, "account:webshop is suspended", "suspend", "account:webshop")
	for _, cmd := range []*exec.Cmd{container(), host(7824)} {
		if said := mustFail(t, cmd); !strings.Contains(said, "< 550 5.7.1 identity suspended") {
			t.Errorf("of who is suspended curl says:\n%s", said)
		}
	}
}
