package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/auth"
)

// clientCertificate is one with a key of its own, valid from now plus one to now
// plus the other.
func clientCertificate(t testing.TB, from, to time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func fingerprint(c tls.Certificate) auth.Fingerprint { return sha256.Sum256(c.Certificate[0]) }

// owner is an account with certificates alone.
func owner(name string, certificates ...tls.Certificate) auth.Account {
	a := auth.Account{Name: name}
	for _, c := range certificates {
		a.Certificates = append(a.Certificates, fingerprint(c))
	}
	return a
}

// newCertificateStand asks its clients for certificates.
func newCertificateStand(t testing.TB, options map[string]string, accounts ...auth.Account) *stand {
	t.Helper()
	b := newStand(t, options)
	next := *b.settings
	next.TLS = &tls.Config{Certificates: next.TLS.Certificates, ClientAuth: tls.RequestClientCert}
	b.settings = &next
	b.apply(t, accounts...)
	return b
}

// apply is a reload with other accounts.
func (b *stand) apply(t testing.TB, accounts ...auth.Account) {
	t.Helper()
	next := *b.settings
	var err error
	if next.Accounts, err = auth.New(accounts, auth.Options{Previous: b.settings.Accounts}); err != nil {
		t.Fatal(err)
	}
	b.settings = &next
	b.server.Apply(&next)
}

// beginTLS leads to the reply to EHLO under TLS, by STARTTLS where the listener
// has it, and gives all of that reply.
func (b *stand) beginTLS(t testing.TB, config *tls.Config) (*player, string) {
	t.Helper()
	raw, err := net.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	p := newPlayer(t, raw)
	if b.role != Submissions {
		p.expectCode("220")
		p.command("EHLO client.test")
		p.command("STARTTLS")
	}
	p = newPlayer(t, tls.Client(raw, config))
	if b.role == Submissions {
		p.expectCode("220")
	}
	if _, err := p.conn.Write([]byte("EHLO client.test\r\n")); err != nil {
		t.Fatal(err)
	}
	var offered strings.Builder
	for {
		line, err := p.reader.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		offered.WriteString(line[4:])
		if line[3] == ' ' {
			return p, offered.String()
		}
	}
}

func clientTLS(certificates ...tls.Certificate) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, Certificates: certificates, ServerName: "host.test"}
}

// The proof of a handshake holds for a session that is resumed from it.
func TestExternal(t *testing.T) {
	for _, role := range []Role{Submission, Submissions} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(string(role)+" "+tls.VersionName(version), func(t *testing.T) {
				shown := clientCertificate(t, -time.Hour, time.Hour)
				b := newCertificateStand(t, map[string]string{"peer": "unknown", "listener": string(role)}, owner("webshop", shown))
				config := clientTLS(shown)
				config.MinVersion, config.MaxVersion = version, version
				config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				for _, resumed := range []bool{false, true} {
					p, offered := b.beginTLS(t, config)
					if state := p.conn.(*tls.Conn).ConnectionState(); state.DidResume != resumed || state.Version != version {
						t.Fatalf("resumed %v in %s", state.DidResume, tls.VersionName(state.Version))
					}
					if !strings.HasSuffix(offered, "\nAUTH EXTERNAL\r\n") {
						t.Fatalf("offered %q", offered)
					}
					p.expectReply("MAIL FROM:<a@example.com>", "530")
					p.expectReply("AUTH EXTERNAL =", "235")
					p.expectReply("AUTH EXTERNAL =", "503")
					p.envelope()
					p.command("RSET")
					p.command("QUIT")
				}
				events := b.finish(t)
				if len(events) != 4 {
					t.Fatalf("%d events", len(events))
				}
				for i, event := range events {
					if account := []string{"", "webshop"}[i%2]; event.AuthID != account || event.ClientCertificate != fingerprint(shown).String() ||
						event.TLSName != "host.test" {
						t.Errorf("event %d: %+v", i, event)
					}
				}
			})
		}
	}
}

func TestExternalRefused(t *testing.T) {
	mine, stranger := clientCertificate(t, -time.Hour, time.Hour), clientCertificate(t, -time.Hour, time.Hour)
	expired, early := clientCertificate(t, -2*time.Hour, -time.Hour), clientCertificate(t, time.Hour, 2*time.Hour)
	for _, c := range []struct {
		name    string
		peer    string
		shown   []tls.Certificate
		say     string
		offered string
		reply   string // a part of it
		error   string // the event's; empty: no event
	}{
		{"no certificate", "unknown", nil, "AUTH EXTERNAL =", "",
			"504 5.5.4 no client certificate was shown in the TLS handshake: configure one", ""},
		{"nobody's certificate", "unknown", []tls.Certificate{stranger}, "AUTH EXTERNAL =", "",
			"535 5.7.8 the client certificate belongs to no account: its SHA-256 fingerprint must be listed",
			"authentication failed: the client certificate belongs to no account"},
		{"expired", "unknown", []tls.Certificate{expired}, "AUTH EXTERNAL =", "AUTH EXTERNAL",
			"535 5.7.8 the client certificate has expired: renew it", "authentication failed: the client certificate has expired"},
		{"not yet valid", "unknown", []tls.Certificate{early}, "AUTH EXTERNAL =", "AUTH EXTERNAL",
			"535 5.7.8 the client certificate is not valid yet", "authentication failed: the client certificate is not valid yet"},
		{"another account's name", "unknown", []tls.Certificate{mine}, "AUTH EXTERNAL b3RoZXI=", "AUTH EXTERNAL",
			"535 5.7.8 authentication credentials invalid", "authentication failed"},
		{"malformed", "unknown", []tls.Certificate{mine}, "AUTH EXTERNAL AA==", "AUTH EXTERNAL", "501 5.5.2", "authentication failed"},
		{"PLAIN for an account without a password", "unknown", []tls.Certificate{mine}, "AUTH PLAIN AG1pbmUAeA==", "AUTH EXTERNAL", "504 5.5.4", ""},
		{"redirected", "redirected", []tls.Certificate{mine}, "AUTH EXTERNAL =", "AUTH PLAIN LOGIN CRAM-MD5 XOAUTH2 OAUTHBEARER", "504 5.5.4", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newCertificateStand(t, map[string]string{"peer": c.peer, "listener": "submissions"},
				owner("mine", mine, expired, early), owner("other", clientCertificate(t, 0, time.Hour)))
			p, offered := b.beginTLS(t, clientTLS(c.shown...))
			var line string
			if i := strings.Index(offered, "AUTH "); i >= 0 {
				line = strings.TrimSpace(offered[i:])
			}
			if line != c.offered {
				t.Errorf("offered %q, want %q", line, c.offered)
			}
			if reply := p.command(c.say); !strings.HasPrefix(reply, c.reply) {
				t.Errorf("reply %q, want %q", reply, c.reply)
			}
			p.command("QUIT")
			events := b.finish(t)
			if c.error == "" {
				checkEvents(t, events, "", "", "")
				return
			}
			checkEvents(t, events, audit.KindSession, "", c.error)
			if events[0].ClientCertificate != fingerprint(c.shown[0]).String() || events[0].AuthID != "" {
				t.Errorf("%+v", events[0])
			}
			if kinds := b.alarms.kinds(); kinds != AlarmLogin {
				t.Errorf("alarms %q", kinds)
			}
			if b.server.throttle.Delay("address:127.0.0.1", time.Now()) == 0 {
				t.Error("the next attempt does not wait")
			}
		})
	}
}

// EXTERNAL stands for what a handshake proved: none, no EXTERNAL.
func TestExternalInClear(t *testing.T) {
	for options, want := range map[string]string{"": "538", "clear": "504"} {
		b := newCertificateStand(t, map[string]string{"peer": "unknown", "auth": options}, owner("mine", clientCertificate(t, 0, time.Hour)))
		b.begin(t).expectReply("AUTH EXTERNAL =", want)
	}
}

// A redirected client's certificate was meant for somebody else.
func TestRedirectedCertificateIsForgotten(t *testing.T) {
	shown := clientCertificate(t, -time.Hour, time.Hour)
	b := newCertificateStand(t, map[string]string{"peer": "redirected", "listener": "submissions"}, owner("mine", shown))
	p, _ := b.beginTLS(t, clientTLS(shown))
	p.envelope()
	p.command("QUIT")
	if event := b.finish(t)[0]; event.ClientCertificate != "" || event.AuthID != "" {
		t.Errorf("%+v", event)
	}
}

// Where accounts have certificates alone, the reply to one without says so.
func TestCertificateRequired(t *testing.T) {
	b := newCertificateStand(t, map[string]string{"peer": "unknown", "listener": "submissions"}, owner("mine", clientCertificate(t, 0, time.Hour)))
	p, _ := b.beginTLS(t, clientTLS())
	if reply := p.command("MAIL FROM:<a@example.com>"); !strings.HasPrefix(reply, "530 5.7.0 authentication required: show the client certificate of an account") {
		t.Error(reply)
	}
}

// Whoever has a certificate but not its key gets no session.
func TestCertificateWithoutItsKey(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		stolen := clientCertificate(t, -time.Hour, time.Hour)
		b := newCertificateStand(t, map[string]string{"peer": "unknown", "listener": "submissions"}, owner("mine", stolen))
		stolen.PrivateKey = clientCertificate(t, 0, time.Hour).PrivateKey
		config := clientTLS(stolen)
		config.MaxVersion = version
		conn, err := tls.Dial("tcp", b.address, config)
		if err == nil { // TLS 1.3 tells the client later
			if _, err = conn.Read(make([]byte, 1)); err == nil {
				t.Fatal("a session without the key")
			}
			_ = conn.Close()
		}
		checkEvents(t, b.finish(t), audit.KindSession, "", "the client does not have the key of the certificate that it showed")
	}
}

// TestReloadEndsCertificates is that a certificate taken from an account logs
// nobody in from then on: not in sessions that are open, nor in resumed ones.
func TestReloadEndsCertificates(t *testing.T) {
	shown, another := clientCertificate(t, -time.Hour, time.Hour), clientCertificate(t, -time.Hour, time.Hour)
	b := newCertificateStand(t, map[string]string{"peer": "unknown", "listener": "submissions"}, owner("webshop", shown))
	config := clientTLS(shown)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	p, _ := b.beginTLS(t, config)
	p.expectReply("AUTH EXTERNAL =", "235")
	p.expectReply("MAIL FROM:<a@example.com>", "250")
	b.apply(t, owner("webshop", another, shown))
	p.expectReply("RSET", "250")
	p.expectReply("MAIL FROM:<a@example.com>", "250")
	b.apply(t, owner("webshop", another))
	p.expectReply("RCPT TO:<b@example.net>", "250") // a transaction ends as it began
	p.expectReply("RSET", "250")
	p.expectReply("MAIL FROM:<a@example.com>", "530")
	p.expectReply("AUTH EXTERNAL =", "535")

	resumed, offered := b.beginTLS(t, config)
	if !resumed.conn.(*tls.Conn).ConnectionState().DidResume || strings.Contains(offered, "EXTERNAL") {
		t.Errorf("offered %q", offered)
	}
	resumed.expectReply("AUTH EXTERNAL =", "535")
}

// writePair puts a certificate and its key into files.
func writePair(t testing.TB, c tls.Certificate) (certificate, key string) {
	t.Helper()
	directory := t.TempDir()
	certificate, key = filepath.Join(directory, "client.pem"), filepath.Join(directory, "client.key")
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

// Real clients log in by EXTERNAL, with the fingerprint that OpenSSL prints.
func TestExternalClients(t *testing.T) {
	shown := clientCertificate(t, -time.Hour, time.Hour)
	certificate, key := writePair(t, shown)
	output, err := exec.Command("openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256").Output()
	_, printed, _ := strings.Cut(strings.TrimSpace(string(output)), "=")
	if err != nil || "sha256:"+strings.ToLower(strings.ReplaceAll(printed, ":", "")) != fingerprint(shown).String() {
		t.Fatalf("%v: OpenSSL prints %q, we %s", err, printed, fingerprint(shown))
	}
	for _, role := range []Role{Submission, Submissions} {
		b := newCertificateStand(t, map[string]string{"peer": "unknown", "listener": string(role)}, owner("webshop", shown))
		host, port, _ := net.SplitHostPort(b.address)
		starttls := map[Role]string{Submission: "on", Submissions: "off"}[role]
		msmtp := exec.Command("msmtp", "--file=/dev/null", "--host="+host, "--port="+port, "--tls=on", "--tls-certcheck=off", "--tls-starttls="+starttls,
			"--auth=external", "--user=webshop", "--tls-cert-file="+certificate, "--tls-key-file="+key, "--from=a@example.com", "b@example.net")
		msmtp.Stdin = strings.NewReader("From: a@example.com\n\nhello\n")
		if output, err := msmtp.CombinedOutput(); err != nil {
			t.Fatalf("msmtp on %s: %v: %s", role, err, output)
		}
		arguments := []string{"s_client", "-connect", b.address, "-quiet", "-crlf", "-cert", certificate, "-key", key}
		if role == Submission {
			arguments = append(arguments, "-starttls", "smtp")
		}
		openssl := exec.Command("openssl", arguments...)
		openssl.Stdin = strings.NewReader("EHLO client.test\nAUTH EXTERNAL d2Vic2hvcA==\nMAIL FROM:<a@example.com>\nQUIT\n")
		output, err := openssl.Output()
		if err != nil || !strings.Contains(string(output), "\r\n235 2.7.0 ") || !strings.Contains(string(output), "\r\n250 2.1.0 ") {
			t.Errorf("openssl on %s: %v: %s", role, err, output)
		}
		for _, event := range b.finish(t) {
			if event.AuthID != "webshop" || event.ClientCertificate != fingerprint(shown).String() {
				t.Errorf("%+v", event)
			}
		}
	}
}
