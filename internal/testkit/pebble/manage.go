package pebble

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// manage is the URL of a page of the management interface.
func (ca *CA) manage(page string) string { return "https://" + ca.management.String() + "/" + page }

// Root is the certificate that a chain ends in: 0 that of the default chain,
// 1 to AlternateRoots those of the others.
func (ca *CA) Root(n int) *x509.Certificate {
	ca.t.Helper()
	text, err := ca.get(ca.manage(fmt.Sprintf("roots/%d", n)))
	if err != nil {
		ca.t.Fatalf("asking the CA for root %d: %v", n, err)
	}
	certificate, err := parse(text)
	if err != nil {
		ca.t.Fatalf("reading root %d: %v", n, err)
	}
	return certificate
}

// Roots is Root as what a client trusts.
func (ca *CA) Roots(n int) *x509.CertPool {
	ca.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(ca.Root(n))
	return pool
}

// Status is "Valid" or "Revoked".
func (ca *CA) Status(certificate *x509.Certificate) string {
	ca.t.Helper()
	text, err := ca.get(ca.manage("cert-status-by-serial/" + certificate.SerialNumber.Text(16)))
	var answer struct{ Status string }
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil {
		ca.t.Fatalf("asking the CA about a certificate: %v", err)
	}
	return answer.Status
}

// SetRenewalWindow makes ARI suggest (RFC 9773) that a certificate be renewed
// between two times. Pebble tells clients to ask again in six hours, so one that
// has asked before will not hear of it soon.
func (ca *CA) SetRenewalWindow(certificate *x509.Certificate, start, end time.Time) {
	ca.t.Helper()
	window := map[string]any{"suggestedWindow": map[string]time.Time{"start": start.UTC(), "end": end.UTC()}}
	answer, err := json.Marshal(window)
	if err == nil {
		err = ca.post("set-renewal-info/", map[string]string{
			"Certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})),
			"ARIResponse": string(answer),
		})
	}
	if err != nil {
		ca.t.Fatalf("setting a window for renewal: %v", err)
	}
}

func (ca *CA) post(page string, request any) error { return post(ca.client, ca.manage(page), request) }

func post(client *http.Client, url string, request any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	response, err := client.Post(url, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	_, err = bodyOf(response)
	return err
}

func parse(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}
