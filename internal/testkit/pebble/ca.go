package pebble

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// CA is a running Pebble. It ends with the test.
type CA struct {
	t        testing.TB
	opts     Options
	dir      string
	identity identity
	client   *http.Client

	api, management netip.AddrPort
	kept            []*os.File

	said    *transcript
	program *program
	dns     *dnsProgram // nil with a Resolver
}

// Start starts a CA and waits until it answers.
func Start(t testing.TB, opts Options) *CA {
	t.Helper()
	ca := &CA{t: t, opts: opts.withDefaults(), dir: t.TempDir(), said: &transcript{}}
	t.Cleanup(ca.end)
	if err := ca.open(); err != nil {
		t.Fatalf("starting a CA: %v", err)
	}
	ca.Start()
	return ca
}

// open prepares what stays while the program comes and goes.
func (ca *CA) open() (err error) {
	if ca.identity, err = newIdentity(ca.opts.Address, ca.opts.Names); err != nil {
		return err
	}
	ca.client = ca.newClient()
	for _, at := range []*netip.AddrPort{&ca.api, &ca.management} {
		var kept *os.File
		if kept, *at, err = keepPort(ca.opts.Network, ca.opts.Address); err != nil {
			return err
		}
		ca.kept = append(ca.kept, kept)
	}
	if ca.opts.Resolver == "" {
		if ca.dns, err = startDNS(ca.opts, ca.client, ca.said); err != nil {
			return err
		}
		ca.opts.Resolver = ca.dns.at.String()
	}
	return ca.write()
}

// end is the cleanup of the test.
func (ca *CA) end() {
	if ca.program != nil {
		ca.program.end()
	}
	if ca.dns != nil {
		ca.dns.end()
	}
	for _, kept := range ca.kept {
		_ = kept.Close()
	}
	if ca.client != nil {
		ca.client.CloseIdleConnections()
	}
	if ca.t.Failed() {
		said := ca.said.String()
		ca.t.Logf("the CA says:\n%s", said[max(0, len(said)-20_000):])
	}
}

// Start starts the CA again after Stop, on the same ports, with no memory.
func (ca *CA) Start() {
	ca.t.Helper()
	path, err := server()
	if err == nil {
		cmd := ca.opts.Network.Command(context.Background(), path,
			"-strict", "-config", ca.path("config.json"), "-dnsserver", ca.opts.Resolver)
		ca.program, err = launch(cmd, ca.said, ca.environment()...)
	}
	if err == nil {
		err = ca.program.await(func() error { return errors.Join(ca.ask(ca.Directory()), ca.ask(ca.manage("roots/0"))) })
	}
	if err != nil {
		ca.t.Fatalf("starting the CA: %v", err)
	}
}

// Stop ends the CA: connecting to it is refused until Start. Accounts, orders
// and its roots are lost, as if another CA came in its place.
func (ca *CA) Stop() {
	ca.program.end()
	ca.client.CloseIdleConnections()
}

// Pause lets the CA hang until Resume: it is connected to and does not answer.
func (ca *CA) Pause() { ca.signal(syscall.SIGSTOP) }

// Resume lets it go on after Pause, with all that it knew.
func (ca *CA) Resume() { ca.signal(syscall.SIGCONT) }

func (ca *CA) signal(sig syscall.Signal) {
	ca.t.Helper()
	if err := ca.program.signal(sig); err != nil {
		ca.t.Fatalf("sending %s to the CA: %v", sig, err)
	}
}

// Directory is the URL that ACME clients start from.
func (ca *CA) Directory() string { return "https://" + ca.api.String() + "/dir" }

// Address is where its API listens.
func (ca *CA) Address() netip.AddrPort { return ca.api }

// PEM is the certificate that makes a client trust its API. It says nothing
// about the certificates that it issues: see Root.
func (ca *CA) PEM() []byte { return slices.Clone(ca.identity.certificate) }

// Pool is PEM as roots for a client of its API.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.identity.certificate)
	return pool
}

// KeyPair is the certificate and key of its API, in PEM, for a server that
// stands before it.
func (ca *CA) KeyPair() (certificate, key []byte) {
	return slices.Clone(ca.identity.certificate), slices.Clone(ca.identity.key)
}

// Client speaks with its API and its management from inside its network.
func (ca *CA) Client() *http.Client { return ca.client }

// Log is what the CA and its DNS server said so far.
func (ca *CA) Log() string { return ca.said.String() }

func (ca *CA) path(name string) string { return filepath.Join(ca.dir, name) }

func (ca *CA) environment() []string {
	env := []string{
		"PEBBLE_WFE_NONCEREJECT=" + strconv.Itoa(ca.opts.BadNonces),
		"PEBBLE_AUTHZREUSE=0",
		"PEBBLE_ALTERNATE_ROOTS=" + strconv.Itoa(ca.opts.AlternateRoots),
	}
	if ca.opts.Slow == 0 {
		return append(env, "PEBBLE_VA_NOSLEEP=1")
	}
	return append(env, "PEBBLE_VA_SLEEPTIME="+strconv.Itoa(seconds(ca.opts.Slow)))
}

// write puts the configuration and the identity into files.
func (ca *CA) write() error {
	type profile struct {
		Description    string `json:"description"`
		ValidityPeriod int    `json:"validityPeriod"`
	}
	profiles := map[string]profile{}
	for name, validity := range ca.opts.Profiles {
		profiles[name] = profile{"valid for " + validity.String(), seconds(validity)}
	}
	text, err := json.MarshalIndent(map[string]any{"pebble": map[string]any{
		"listenAddress":                  ca.api.String(),
		"managementListenAddress":        ca.management.String(),
		"certificate":                    ca.path("api.pem"),
		"privateKey":                     ca.path("api-key.pem"),
		"httpPort":                       ca.opts.HTTPPort,
		"tlsPort":                        ca.opts.TLSPort,
		"externalAccountBindingRequired": len(ca.opts.EAB) > 0,
		"externalAccountMACKeys":         ca.opts.EAB,
		"domainBlocklist":                ca.opts.Blocked,
		"keyAlgorithm":                   "ecdsa",
		"retryAfter":                     map[string]int{"authz": seconds(ca.opts.RetryAfter), "order": seconds(ca.opts.RetryAfter)},
		"profiles":                       profiles,
	}}, "", "  ")
	return errors.Join(err,
		os.WriteFile(ca.path("config.json"), text, 0o600),
		os.WriteFile(ca.path("api.pem"), ca.identity.certificate, 0o600),
		os.WriteFile(ca.path("api-key.pem"), ca.identity.key, 0o600))
}

func seconds(d time.Duration) int { return int(d / time.Second) }

func (ca *CA) newClient() *http.Client {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool()},
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			// The address is a literal one: nothing is dialled by another goroutine.
			err = ca.opts.Network.Do(func() error {
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}
	return &http.Client{Transport: transport, Timeout: patience}
}

// ask gets a page and forgets it.
func (ca *CA) ask(url string) error {
	_, err := ca.get(url)
	return err
}

func (ca *CA) get(url string) ([]byte, error) {
	response, err := ca.client.Get(url)
	if err != nil {
		return nil, err
	}
	return bodyOf(response)
}

// bodyOf reads the answer to a request that has to succeed.
func bodyOf(response *http.Response) ([]byte, error) {
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s says %s: %.200s", response.Request.URL, response.Status, body)
	}
	return body, err
}
