package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/farend"
	"github.com/smtpwall/smtpwall/test/bench/load"
	"github.com/smtpwall/smtpwall/test/bench/peer"
)

const (
	proxyName = "proxy.test"
	relayName = "relay.test"
	username  = "bench"
	password  = "bench-password-1"
)

// bench is one scenario under way: its directory, relay and peers.
type bench struct {
	scenario scenario
	opts     options
	report   *report
	dir      string
	relay    *farend.FarEnd
	roots    *x509.CertPool // the relay's authority and the proxies'
	env      peer.Environment
	running  []*peer.Running
	runs     int
	peers    string // where the peers' directories are
	mounted  bool   // a file system is mounted there
}

func newBench(s scenario, opts options, report *report) (*bench, error) {
	dir, err := os.MkdirTemp(opts.dir, "smtpwall-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{scenario: s, opts: opts, report: report, dir: dir, peers: dir}
	// Programs that change their user must get through.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, errors.Join(err, b.close())
	}
	if err := b.prepare(); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bench) prepare() error {
	var err error
	b.relay, err = farend.Start(farend.Options{Delay: b.scenario.delay, Username: username, Password: password})
	if err != nil {
		return err
	}
	smtpwall, err := filepath.Abs(b.opts.smtpwall)
	if err != nil {
		return err
	}
	b.env = peer.Environment{
		Name: proxyName, Certificate: filepath.Join(b.dir, "proxy.pem"), Key: filepath.Join(b.dir, "proxy.key"),
		RelaySTART: b.relay.STARTTLS, RelayTLS: b.relay.Implicit, RelayName: relayName, RelayCA: filepath.Join(b.dir, "relay-ca.pem"),
		Username: username, Password: password, Smtpwall: smtpwall,
	}
	if err := os.WriteFile(b.env.RelayCA, b.relay.CA, 0o644); err != nil {
		return err
	}
	certificate, err := issueCertificate(b.env.Certificate, b.env.Key)
	if err != nil {
		return fmt.Errorf("making the proxies' certificate: %w", err)
	}
	b.roots = x509.NewCertPool()
	b.roots.AppendCertsFromPEM(b.relay.CA)
	b.roots.AddCert(certificate)
	return nil
}

// close ends everything that was started, the last first.
func (b *bench) close() error {
	var errs []error
	for len(b.running) > 0 {
		last := len(b.running) - 1
		if err := b.running[last].Stop(); err != nil {
			errs = append(errs, fmt.Errorf("stopping %s: %w", b.running[last].Name, err))
		}
		b.running = b.running[:last]
	}
	if b.relay != nil {
		errs = append(errs, b.relay.Stop())
	}
	errs = append(errs, b.unmount())
	if b.opts.keep {
		fmt.Println("  kept:", b.dir)
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// start starts one of the peers. It runs until close.
func (b *bench) start(ctx context.Context, name string) (*peer.Running, error) {
	env := b.env
	env.Dir = filepath.Join(b.peers, name)
	running, err := peer.Start(ctx, name, env)
	if err != nil {
		return nil, err
	}
	b.running = append(b.running, running)
	return running, nil
}

// target is how clients submit to a peer.
func (b *bench) target(p *peer.Running, r rate) load.Target {
	target := load.Target{RootCAs: b.roots, ServerName: proxyName, Username: username, Password: password}
	if p.Name == "direct" {
		target.ServerName = relayName
	}
	if r.noAuth {
		target.Username, target.Password = "", ""
	}
	switch {
	case r.plain && p.Name != "direct":
		target.Address = p.Plain
		if !p.ClientAuth {
			target.Username, target.Password = "", ""
		}
	case p.STARTTLS != "":
		target.Address, target.Security = p.STARTTLS, load.STARTTLS
	default:
		target.Address, target.Security = p.Implicit, load.Implicit
	}
	return target
}

// issueCertificate writes a self-signed P-256 certificate with its key, and the
// key alone beside it.
func issueCertificate(bundle, keyFile string) (*x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: proxyName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{proxyName, "localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	text := append(keyPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	if err := os.WriteFile(bundle, text, 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(keyFile, keyPEM, 0o600); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
