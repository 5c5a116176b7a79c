package pebble_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/internal/testkit/pebble"
)

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// register makes a client with an account.
func register(t *testing.T, ca *pebble.CA, account acme.Account) (*acme.Client, error) {
	t.Helper()
	client := &acme.Client{Key: newKey(t), HTTPClient: ca.Client(), DirectoryURL: ca.Directory()}
	_, err := client.Register(t.Context(), &account, acme.AcceptTOS)
	return client, err
}

// issue gets a certificate by HTTP-01 from a port of this machine, leaf first.
func issue(t *testing.T, client *acme.Client, listener net.Listener, name string) ([]*x509.Certificate, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs(name))
	if err != nil {
		return nil, "", err
	}
	if err := prove(ctx, client, listener, order.AuthzURLs[0]); err != nil {
		return nil, "", err
	}
	if order, err = client.WaitOrder(ctx, order.URI); err != nil {
		return nil, "", err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	// Pebble does not say again where the order is, which the client takes ill.
	_, _, _ = client.CreateOrderCert(ctx, order.FinalizeURL, csr, true)
	if order, err = client.WaitOrder(ctx, order.URI); err != nil {
		return nil, "", err
	}
	ders, err := client.FetchCert(ctx, order.CertURL, true)
	if err != nil {
		return nil, "", err
	}
	var chain []*x509.Certificate
	for _, der := range ders {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, certificate)
	}
	return chain, order.CertURL, nil
}

// prove answers the HTTP-01 challenge of an authorization.
func prove(ctx context.Context, client *acme.Client, listener net.Listener, url string) error {
	authorization, err := client.GetAuthorization(ctx, url)
	if err != nil {
		return err
	}
	for _, challenge := range authorization.Challenges {
		if challenge.Type != "http-01" {
			continue
		}
		answer, err := client.HTTP01ChallengeResponse(challenge.Token)
		if err != nil {
			return err
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == client.HTTP01ChallengePath(challenge.Token) {
				_, _ = io.WriteString(w, answer)
			}
		})}
		go func() { _ = server.Serve(listener) }() // ends with Close
		defer server.Close()
		if _, err := client.Accept(ctx, challenge); err != nil {
			return err
		}
	}
	_, err = client.WaitAuthorization(ctx, url)
	return err
}

func verify(t *testing.T, chain []*x509.Certificate, name string, roots *x509.CertPool) error {
	t.Helper()
	between := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		between.AddCert(certificate)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between})
	return err
}

func listen(t *testing.T) (net.Listener, int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener, listener.Addr().(*net.TCPAddr).Port
}

// TestIssuance: a certificate of the wanted length, that verifies against the
// chosen root only, and whose renewal can be suggested.
func TestIssuance(t *testing.T) {
	t.Parallel()
	listener, port := listen(t)
	ca := pebble.Start(t, pebble.Options{
		HTTPPort: port, AlternateRoots: 1, BadNonces: 20,
		Profiles: map[string]time.Duration{"default": 5 * time.Minute},
	})
	client, err := register(t, ca, acme.Account{})
	if err != nil {
		t.Fatal(err)
	}
	chain, url, err := issue(t, client, listener, "vps1.example.test")
	if err != nil {
		t.Fatal(err)
	}
	if got := chain[0].NotAfter.Sub(chain[0].NotBefore); got.Round(time.Second) > 5*time.Minute || got < 4*time.Minute {
		t.Errorf("valid for %s, want 5 minutes", got)
	}
	if err := verify(t, chain, "vps1.example.test", ca.Roots(0)); err != nil {
		t.Error(err)
	}
	if err := verify(t, chain, "vps1.example.test", ca.Roots(1)); err == nil {
		t.Error("the default chain ends in the alternate root")
	}
	if alternates, err := client.ListCertAlternates(t.Context(), url); err != nil || len(alternates) != 1 {
		t.Errorf("alternate chains: %v, %v", alternates, err)
	}
	if got := ca.Status(chain[0]); got != "Valid" {
		t.Errorf("status %q", got)
	}
	checkWindow(t, ca, chain[0])
}

func checkWindow(t *testing.T, ca *pebble.CA, certificate *x509.Certificate) {
	t.Helper()
	start := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	ca.SetRenewalWindow(certificate, start, start.Add(time.Minute))
	id := base64.RawURLEncoding.EncodeToString(certificate.AuthorityKeyId) + "." +
		base64.RawURLEncoding.EncodeToString(certificate.SerialNumber.Bytes())
	response, err := ca.Client().Get(strings.TrimSuffix(ca.Directory(), "dir") + "draft-ietf-acme-ari-03/renewalInfo/" + id)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var info struct {
		SuggestedWindow struct{ Start, End time.Time }
	}
	if err := json.NewDecoder(response.Body).Decode(&info); err != nil || !info.SuggestedWindow.Start.Equal(start) {
		t.Errorf("the window is %+v, %v, want one from %s", info, err, start)
	}
}

// TestRefusals: what the CA is told to refuse it refuses.
func TestRefusals(t *testing.T) {
	t.Parallel()
	listener, port := listen(t)
	mac := []byte("a key of thirty-two octets, just")
	ca := pebble.Start(t, pebble.Options{
		HTTPPort: port, Blocked: []string{"blocked.test"},
		EAB: map[string]string{"kid-1": base64.RawURLEncoding.EncodeToString(mac)},
	})
	if _, err := register(t, ca, acme.Account{}); err == nil || !strings.Contains(err.Error(), "externalAccountRequired") {
		t.Errorf("an account without a binding: %v", err)
	}
	client, err := register(t, ca, acme.Account{ExternalAccountBinding: &acme.ExternalAccountBinding{KID: "kid-1", Key: mac}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = issue(t, client, listener, "www.blocked.test"); err == nil || !strings.Contains(err.Error(), "forbidden by policy") {
		t.Errorf("a blocked name: %v", err)
	}
}

// TestAway: a CA in a namespace goes away, comes back at the same place, and
// hangs for a while.
func TestAway(t *testing.T) {
	t.Parallel()
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	ca := pebble.Start(t, pebble.Options{Network: l.Remote, Address: l.Remote.Addr4()})
	ask := func() error {
		client := *ca.Client()
		client.Timeout = 500 * time.Millisecond
		response, err := client.Get(ca.Directory())
		if err == nil {
			_ = response.Body.Close()
		}
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.DialTimeout("tcp", ca.Address().String(), 100*time.Millisecond); err == nil {
		_ = conn.Close()
		t.Error("the CA is in the machine's own network")
	}
	conn, err := l.Host.Dial(t.Context(), ca.Address())
	if err != nil {
		t.Fatal(err)
	}
	if err := tls.Client(conn, &tls.Config{RootCAs: ca.Pool(), ServerName: l.Remote.Addr4().String()}).Handshake(); err != nil {
		t.Error(err)
	}
	root := ca.Root(0)
	ca.Pause()
	if err := ask(); err == nil {
		t.Error("the CA answers while it is paused")
	}
	ca.Resume()
	if !root.Equal(ca.Root(0)) {
		t.Error("a pause changed the root")
	}
	ca.Stop()
	if err := ask(); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("while it is away: %v", err)
	}
	ca.Start()
	if root.Equal(ca.Root(0)) {
		t.Error("the CA remembers its root")
	}
}
