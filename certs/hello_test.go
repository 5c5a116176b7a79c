package certs

import (
	"crypto/tls"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestLegacyClients: crypto/tls's own alert for them, and a line that says what they offered.
func TestLegacyClients(t *testing.T) {
	rsaOnly := []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}
	tests := map[string]struct {
		least         uint16
		client        *tls.Config
		alert, logged string
		field, value  string
	}{
		"TLS 1.1": {0, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "protocol version not supported",
			"no version of TLS from 1.2 on", "versions", "TLS 1.1"},
		"TLS 1.2 where 1.3 is the least": {tls.VersionTLS13, &tls.Config{MaxVersion: tls.VersionTLS12}, "protocol version not supported",
			"no TLS 1.3", "versions", "TLS 1.2"},
		"legacy suites": {0, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: rsaOnly}, "handshake failure",
			"nothing but legacy cipher suites", "suites", "TLS_RSA_WITH_AES_128_CBC_SHA"},
		"a legacy suite beside a good one": {0, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: append(rsaOnly[:1:1], tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)}, "",
			"", "", ""},
		"TLS 1.2": {0, &tls.Config{MaxVersion: tls.VersionTLS12}, "", "", "", ""},
		"TLS 1.3": {tls.VersionTLS13, &tls.Config{}, "", "", "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zap.WarnLevel)
			m := open(t, Options{MinVersion: test.least, Logger: zap.New(core)})
			client := test.client.Clone()
			client.ServerName, client.InsecureSkipVerify = "localhost", true
			for range 3 {
				_, err := dial(m.TLSConfig(), client, direct)
				if test.alert == "" && err != nil || test.alert != "" && (err == nil || !strings.Contains(err.Error(), test.alert)) {
					t.Errorf("error %v, want %q", err, test.alert)
				}
			}
			if test.logged == "" {
				if logs.Len() != 0 {
					t.Errorf("logged %v", logs.All())
				}
				return
			}
			lines := logs.FilterMessageSnippet(test.logged).All()
			if logs.Len() != 1 || len(lines) != 1 {
				t.Fatalf("logged %v, want one line with %q", logs.All(), test.logged)
			}
			told, _ := lines[0].ContextMap()[test.field].([]any)
			if len(told) == 0 || !strings.Contains(strings.Join(texts(told), " "), test.value) || lines[0].ContextMap()["client"] == nil {
				t.Errorf("fields %v, want %s in %s", lines[0].ContextMap(), test.value, test.field)
			}
		})
	}
}

func texts(values []any) (list []string) {
	for _, v := range values {
		s, _ := v.(string)
		list = append(list, s)
	}
	return list
}

// TestClientCertificates: asked for, taken as they are, and not needed; tickets go on over a Reload that asks.
func TestClientCertificates(t *testing.T) {
	ca, directory := newPublicCA(t), t.TempDir()
	certificatePEM, keyPEM := ca.issue(t, "client.example")
	pair, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	m := open(t, Options{Directory: directory})
	ask := func(client *tls.Config) bool {
		t.Helper()
		asked := false
		client = client.Clone()
		client.ServerName, client.RootCAs = "localhost", roots(t, directory)
		client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return &pair, nil
		}
		if _, err := dial(m.TLSConfig(), client, direct); err != nil {
			t.Fatal(err)
		}
		return asked
	}
	resuming := &tls.Config{MaxVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	if ask(&tls.Config{}) || ask(resuming) {
		t.Error("asked for a certificate unasked")
	}
	for range 2 {
		if err := m.Reload(Options{Directory: directory, ClientCertificates: true}); err != nil {
			t.Fatal(err)
		}
		if !ask(&tls.Config{}) || !ask(&tls.Config{MaxVersion: tls.VersionTLS12}) {
			t.Error("not asked for a certificate")
		}
		client := resuming.Clone()
		client.ServerName, client.RootCAs = "localhost", roots(t, directory)
		if state, err := dial(m.TLSConfig(), client, direct); err != nil || !state.DidResume {
			t.Errorf("resumed over a reload: %v: %v", state.DidResume, err)
		}
	}
	if _, err := dial(m.TLSConfig(), &tls.Config{ServerName: "localhost", RootCAs: roots(t, directory)}, direct); err != nil {
		t.Errorf("without a certificate: %v", err)
	}
}
