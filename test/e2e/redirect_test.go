package e2e_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

const foreignName = "smtp.elsewhere.example"

// TestRedirected: who dials a server elsewhere, with a credential for it, is
// served here under that server's name, and the message takes the relay's way.
func TestRedirected(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	user, password := "apikey-"+randomWord(), "junk-"+randomWord()
	for _, at := range []struct {
		port int
		tls  string
	}{{465, "implicit"}, {587, "starttls"}, {2525, "starttls"}} {
		for _, address := range []netip.Addr{foreign4, foreign6} {
			t.Run(fmt.Sprint(at.port, " ", address), func(t *testing.T) {
				l := newLetter()
				o := order{
					Host: address.String(), Name: foreignName, Port: at.port, TLS: at.tls, CA: b.localCA(),
					User: user, Password: password, File: b.letterFile(l),
				}
				got := b.python(t, o)
				if got.Error != nil || got.Login != 235 || !slices.Equal(got.Certificate, []string{foreignName}) {
					t.Errorf("smtplib says %+v", got)
				}
				_, event := b.arrived(t, l, trace{"redirected local process", "ESMTPS"})
				if event.Listener != "intercepted" || event.TLSName != foreignName || event.AuthID != "" ||
					event.OrigDst != netip.AddrPortFrom(address, uint16(at.port)) {
					t.Errorf("the event says %+v", event)
				}
				o.CA = ""
				if said := mustFail(t, b.smtplib(t, o)); !strings.Contains(said, "CERTIFICATE_VERIFY_FAILED") {
					t.Errorf("without the local CA smtplib says:\n%s", said)
				}
			})
		}
	}
	b.checkSecrets(user, password, base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
}

// TestRedirectedClients: the clients that people have, as they are configured
// for a provider.
func TestRedirectedClients(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	password := "junk-" + randomWord()
	want := trace{"redirected local process", "ESMTPS"}
	t.Run("curl", func(t *testing.T) {
		for url, at := range map[string]string{
			"smtp://" + foreignName + ":587":  foreignName + ":587:" + foreign4.String(),
			"smtps://" + foreignName + ":465": foreignName + ":465:[" + foreign6.String() + "]",
		} {
			l := newLetter()
			mustSucceed(t, b.program("curl", b.curl(l, url, "--resolve", at, "--ssl-reqd", "--user", "somebody:"+password)...))
			b.arrived(t, l, want)
		}
	})
	t.Run("swaks", func(t *testing.T) {
		for _, mechanism := range []string{"PLAIN", "LOGIN"} {
			l := newLetter()
			mustSucceed(t, b.program("swaks", b.swaks(l, "--server", foreign4.String()+":587", "--tls", "--tls-sni", foreignName,
				"--auth", mechanism, "--auth-user", "somebody", "--auth-password", password)...))
			b.arrived(t, l, want)
		}
	})
	t.Run("msmtp", func(t *testing.T) {
		l := newLetter()
		text := fmt.Sprintf("account default\nhost %s\nport 465\ntls on\ntls_starttls off\ntls_certcheck off\n"+
			"from %s\nset_date_header off\nset_msgid_header off\nauth plain\nuser somebody\npassword %s\n", foreign6, sender, password)
		cmd := b.program("msmtp", "--file="+b.write("foreign", text, 0o600, siteUID), "--", recipient)
		cmd.Stdin = bytes.NewReader(l.unix())
		mustSucceed(t, cmd)
		b.arrived(t, l, want)
	})
	b.checkSecrets(password)
}

// TestRejectedSubmission: submission_ports = "reject" refuses at once.
func TestRejectedSubmission(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: "[firewall]\nsubmission_ports = \"reject\"\n"})
	for _, port := range []uint16{465, 587, 2525} {
		for _, to := range destinations(port, foreign4, foreign6) {
			tries, _, done := b.dial(attempts{from: b.Host, uid: siteUID, to: to, count: 4, unit: newUnit(t)})
			checkRefused(t, tries)
			done()
		}
	}
}

// TestRelayIsForTheProxyAlone: even at the approved relay another user ends up
// with us.
func TestRelayIsForTheProxyAlone(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	b.run.said.await(t, "relay is ready", 1)
	before := b.relay.Counters().Connections
	for _, uid := range []uint32{0, siteUID} {
		conn, err := b.Host.DialAs(t.Context(), uid, netip.AddrPortFrom(relayAddr, 587))
		if err == nil {
			_ = conn.Close()
		}
	}
	if after := b.relay.Counters().Connections; after != before {
		t.Errorf("the relay has %d connections more", after-before)
	}
}

// TestSecrets: right and wrong passwords of accounts, and the relay's when the
// relay refuses it, show up nowhere.
func TestSecrets(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: accountConfig(t)})
	guessed := "guessed-" + randomWord()
	o := order{Host: "localhost", Port: 587, TLS: "starttls", CA: b.localCA(), User: accountName, Password: accountPassword}
	for _, o.Mechanism = range []string{"PLAIN", "LOGIN"} {
		b.python(t, o)
	}
	o.Password = guessed
	mustFail(t, b.smtplib(t, o))
	b.relay.On(testkit.StepAuth, testkit.Fault{Text: "535 5.7.8 go away"})
	b.relay.DropConnections()
	l := newLetter()
	o.User, o.Password, o.File = "", "", b.letterFile(l)
	if got := b.python(t, o); got.Error != nil || len(got.Refused) > 0 {
		t.Errorf("while the relay refuses us smtplib says %+v", got)
	}
	waiting, all := b.list(t, "queue")
	if len(waiting) != 1 || !strings.Contains(all[waiting[0]].Progress.Reason, "535 5.7.8 go away") {
		t.Errorf("while the relay refuses us the queue has %+v", all)
	}
	b.checkSecrets(accountPassword, guessed)
}

// checkSecrets looks for secrets, and for the relay's password, wherever we may
// leave them: the program log, the audit log and all other files, and what the
// process list shows.
func (b *bed) checkSecrets(secrets ...string) {
	b.t.Helper()
	for _, secret := range append(secrets, b.relayPassword, "\x00"+relayUser+"\x00"+b.relayPassword) {
		encoded := base64.StdEncoding.EncodeToString([]byte(secret))
		for place, text := range b.places() {
			if strings.Contains(text, secret) || strings.Contains(text, encoded) {
				b.t.Errorf("the secret %q is in %s", secret, place)
			}
		}
	}
}

// places are all texts that we leave.
func (b *bed) places() map[string]string {
	b.t.Helper()
	places := map[string]string{"the program log": b.run.said.String()}
	for _, directory := range []string{"state", "log", "run"} {
		err := filepath.WalkDir(b.path(directory), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				places[path] = readFile(b.t, path)
			}
			return err
		})
		if err != nil {
			b.t.Error(err)
		}
	}
	family := b.family()
	if len(family) < 2 {
		b.t.Errorf("guard and proxy are these processes: %v", family)
	}
	for _, pid := range family {
		for _, file := range []string{"cmdline", "environ"} {
			path := fmt.Sprintf("/proc/%d/%s", pid, file)
			places[path] = readFile(b.t, path)
		}
	}
	return places
}

// family are the processes of smtpwall run.
func (b *bed) family() []int {
	b.t.Helper()
	parent := b.run.cmd.Process.Pid
	return append([]int{parent}, children(b.t, parent)...)
}

// children are the processes that a process started.
func children(t testing.TB, parent int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid …, and the name may hold anything
		_, rest, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ")
		pid, ppid, state := 0, 0, ""
		_, _ = fmt.Sscan(string(text), &pid)
		_, _ = fmt.Sscan(rest, &state, &ppid)
		if ppid == parent {
			found = append(found, pid)
		}
	}
	return found
}
