package certs

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// hostileCA speaks ACME as it pleases. What it checks is nothing: its challenges are met when it has been told to look.
type hostileCA struct {
	publicCA
	url string

	mu       sync.Mutex
	requests map[string]int // by path
	orders   []*hostileOrder

	// hooks, nil for a sound CA
	answer func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
	spoil  func(*x509.Certificate)                           // what it signs
	chain  func(leaf []byte) []byte                          // what it gives
	authz  func(*acme.Authorization)
}

type hostileOrder struct {
	name, replaces string
	looked         bool // it was told to look at the challenge
	key            crypto.PublicKey
}

func newHostileCA(t testing.TB) *hostileCA {
	t.Helper()
	ca := &hostileCA{publicCA: newPublicCA(t), requests: map[string]int{}, orders: []*hostileOrder{{}}}
	server := httptest.NewServer(ca)
	t.Cleanup(server.Close)
	ca.url = server.URL
	return ca
}

// hostileOptions has the CAs asked for acmeHost, in order.
func hostileOptions(t testing.TB, cas ...*hostileCA) Options {
	t.Helper()
	o := Options{Source: SourceACME, Directory: t.TempDir(), Names: []string{acmeHost},
		ACME: ACMEOptions{WebRoot: t.TempDir(), Retries: []time.Duration{time.Hour}, calm: time.Nanosecond}}
	for _, ca := range cas {
		o.ACME.Issuers = append(o.ACME.Issuers, ACMEIssuer{Directory: ca.url + "/dir"})
	}
	return o
}

// change sets hooks while the CA runs.
func (ca *hostileCA) change(how func(ca *hostileCA)) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	how(ca)
}

// asked is how often a path was.
func (ca *hostileCA) asked(path string) int {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return ca.requests[path]
}

func (ca *hostileCA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	path, number, _ := strings.Cut(r.URL.Path[1:], "/")
	ca.requests[path]++
	w.Header().Set("Replay-Nonce", rand.Text())
	if ca.answer != nil && ca.answer(w, r) {
		return
	}
	n, _ := strconv.Atoi(number)
	if n >= len(ca.orders) {
		n = 0
	}
	ca.serve(w, path, n, payload(r))
}

// serve answers about the nth order; the first is nobody's.
func (ca *hostileCA) serve(w http.ResponseWriter, path string, n int, payload []byte) {
	order := ca.orders[n]
	challengeURL := fmt.Sprintf("%s/challenge/%d", ca.url, n)
	switch path {
	case "dir":
		give(w, map[string]any{"newNonce": ca.url + "/nonce", "newAccount": ca.url + "/account", "newOrder": ca.url + "/new", "renewalInfo": ca.url + "/ari"})
	case "account":
		w.Header().Set("Location", ca.url+"/account/1")
		give(w, map[string]any{"status": "valid"})
	case "new":
		var wanted acme.Order
		_ = json.Unmarshal(payload, &wanted)
		ca.orders = append(ca.orders, &hostileOrder{name: wanted.Identifiers[0].Value, replaces: wanted.Replaces})
		ca.giveOrder(w, len(ca.orders)-1, "pending")
	case "authz":
		authz := acme.Authorization{Identifier: acme.Identifier{Type: "dns", Value: order.name}, Status: "pending"}
		for _, kind := range []string{ChallengeHTTP, ChallengeDNS} {
			authz.Challenges = append(authz.Challenges, acme.Challenge{Type: kind, URL: challengeURL, Status: "pending", Token: "token"})
		}
		if order.looked {
			authz.Status = "valid"
		}
		if ca.authz != nil {
			ca.authz(&authz)
		}
		give(w, authz)
	case "challenge":
		order.looked = true
		give(w, acme.Challenge{Type: ChallengeHTTP, URL: challengeURL, Status: "processing"})
	case "finalize":
		var request struct{ CSR string }
		_ = json.Unmarshal(payload, &request)
		der, _ := base64.RawURLEncoding.DecodeString(request.CSR)
		if csr, err := x509.ParseCertificateRequest(der); err == nil {
			order.key = csr.PublicKey
		}
		ca.giveOrder(w, n, "valid")
	case "order":
		ca.giveOrder(w, n, "valid")
	case "certificate":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(ca.sign(order))
	case "ari":
		start := time.Now().Add(60 * 24 * time.Hour)
		give(w, map[string]any{"suggestedWindow": map[string]time.Time{"start": start, "end": start.Add(time.Hour)}})
	}
}

func (ca *hostileCA) giveOrder(w http.ResponseWriter, n int, status string) {
	url := func(path string) string { return fmt.Sprintf("%s/%s/%d", ca.url, path, n) }
	w.Header().Set("Location", url("order"))
	give(w, acme.Order{Status: status, Identifiers: []acme.Identifier{{Type: "dns", Value: ca.orders[n].name}}, Authorizations: []string{url("authz")},
		Finalize: url("finalize"), Certificate: url("certificate")})
}

func (ca *hostileCA) sign(order *hostileOrder) []byte {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{SerialNumber: serial, DNSNames: []string{order.name}, AuthorityKeyId: []byte{1},
		NotBefore: time.Now().Add(-time.Second), NotAfter: time.Now().Add(90 * 24 * time.Hour), PublicKey: order.key}
	if ca.spoil != nil {
		ca.spoil(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.root, template.PublicKey, ca.key)
	if err != nil {
		panic(err)
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if ca.chain != nil {
		return ca.chain(leaf)
	}
	return leaf
}

func give(w http.ResponseWriter, object any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object)
}

// giveProblem answers with a problem document (RFC 7807).
func giveProblem(w http.ResponseWriter, status int, kind, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:%s","detail":%q}`, kind, detail)
}

func payload(r *http.Request) []byte {
	body, _ := io.ReadAll(r.Body)
	var signed struct{ Payload string }
	_ = json.Unmarshal(body, &signed)
	content, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
	return content
}

// stored are the files of acmeHost's certificates.
func stored(t testing.TB, directory, suffix string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(directory, acmeDirectory, "certificates", "*", acmeHost, acmeHost+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return found
}
