package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// publicCA stands for the CA that the files come from.
type publicCA struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newPublicCA(t testing.TB) publicCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "public CA"}, NotAfter: time.Now().Add(time.Hour * 1e5),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	ca := publicCA{root, key, x509.NewCertPool()}
	ca.pool.AddCert(root)
	return ca
}

// issue returns a certificate and its key in PEM.
func (ca publicCA) issue(t testing.TB, names ...string) (certificate, key []byte) {
	t.Helper()
	return ca.issueFor(t, 90*24*time.Hour, names...)
}

func (ca publicCA) issueFor(t testing.TB, life time.Duration, names ...string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{DNSNames: names, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.root, private.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

// pairFiles are a certificate's and a key's file.
type pairFiles struct{ certificate, key string }

func (p pairFiles) write(t testing.TB, certificate, key []byte) {
	t.Helper()
	for path, content := range map[string][]byte{p.certificate: certificate, p.key: key} {
		if content == nil {
			continue
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func newPairFiles(t testing.TB) pairFiles {
	directory := t.TempDir()
	return pairFiles{filepath.Join(directory, "fullchain.pem"), filepath.Join(directory, "privkey.pem")}
}

func (p pairFiles) options(directory string) Options {
	return Options{Source: SourceFiles, Directory: directory, Names: []string{"vps1.example.net"},
		CertificateFile: p.certificate, KeyFile: p.key}
}

// TestFilesSelection: the files' certificate for its names and for whoever names no host; the local CA for the rest
// of the host's names and for redirected connections.
func TestFilesSelection(t *testing.T) {
	ca, files, directory := newPublicCA(t), newPairFiles(t), t.TempDir()
	certificate, key := ca.issue(t, "vps1.example.net", "*.mail.example.net")
	files.write(t, certificate, key)
	m := open(t, files.options(directory))
	tests := []struct {
		serverName string
		redirected bool
		public     bool
	}{
		{"vps1.example.net", false, true}, {"VPS1.example.net", false, true}, {"a.mail.example.net", false, true},
		{"", false, true}, {"foreign.example", false, true}, {"a.b.mail.example.net", false, true}, {"localhost", false, false},
		{"vps1.example.net", true, true}, {"a.mail.example.net", true, true},
		{"a.b.mail.example.net", true, false}, {"mail.example.net", true, false}, {"foreign.example", true, false},
		{"", true, false}, {"localhost", true, false},
	}
	for _, test := range tests {
		destination := direct
		if test.redirected {
			destination = foreign4
		}
		leaf := shown(t, m, test.serverName, destination)
		if public := leaf.Issuer.CommonName == "public CA"; public != test.public {
			t.Errorf("%q, redirected %v: from the files %v, want %v", test.serverName, test.redirected, public, test.public)
		}
		if !test.public {
			name := test.serverName
			if name == "" {
				name = foreign4.Addr().String()
			}
			verify(t, leaf, directory, name, time.Now())
		}
	}
	if list := m.Status(); len(list) != 3 || list[0].Source != "files" || list[0].Issuer != "public CA" {
		t.Errorf("status: %+v", list)
	}
}

// TestFilesRefused: what is no pair is an error for who asks, and for the running host a condition; the local CA serves.
func TestFilesRefused(t *testing.T) {
	ca := newPublicCA(t)
	certificate, key := ca.issue(t, "vps1.example.net")
	_, otherKey := ca.issue(t, "vps1.example.net")
	tests := []struct {
		name             string
		certificate, key []byte
		mode             os.FileMode
		want             string
	}{
		{"another key", certificate, otherKey, 0o600, "private key does not match public key"},
		{"no certificate", nil, key, 0o600, "reading the certificate file: open"},
		{"no key", certificate, nil, 0o600, "reading the key file: open"},
		{"empty certificate", []byte{}, key, 0o600, "fullchain.pem with"},
		{"half a key", certificate, key[:100], 0o600, "privkey.pem: tls: failed to find any PEM data in key input"},
		{"key that all can read", certificate, key, 0o644, "mode 0644, so others may have read it; chmod 0640"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files := newPairFiles(t)
			files.write(t, test.certificate, test.key)
			if test.key != nil {
				if err := os.Chmod(files.key, test.mode); err != nil {
					t.Fatal(err)
				}
			}
			o := files.options(t.TempDir())
			if err := o.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			m := open(t, o)
			verify(t, shown(t, m, "vps1.example.net", direct), o.Directory, "vps1.example.net", time.Now())
			condition := m.Conditions()["certificate "+files.certificate]
			if !strings.Contains(condition, test.want) || !strings.Contains(condition, "the local CA's instead") {
				t.Errorf("condition %q, want %q in it", condition, test.want)
			}
			if status := m.Status()[0]; status.Source != "files" || status.Serving || !strings.Contains(status.LastError, test.want) {
				t.Errorf("status %+v", status)
			}
			if err := m.Reload(o); err == nil {
				t.Error("a reload took the files")
			}
		})
	}
}

// TestFilesChange goes, by a clock that jumps, through what other programs do to the two files.
func TestFilesChange(t *testing.T) {
	ca := newPublicCA(t)
	oldCertificate, oldKey := ca.issue(t, "old.example")
	newCertificate, newKey := ca.issue(t, "new.example")
	chain := append(append([]byte(nil), newCertificate...), oldCertificate...)
	type step struct {
		certificate, key []byte
		mode             os.FileMode
		want             string // the name shown when the watcher has looked thrice
		warnings         int    // so far
	}
	tests := map[string][]step{
		"both at once": {
			{newCertificate, newKey, 0o600, "new.example", 0},
		},
		"certificate first": {
			{newCertificate, nil, 0o600, "old.example", 1},
			{nil, newKey, 0o600, "new.example", 1},
		},
		"key first": {
			{nil, newKey, 0o600, "old.example", 1},
			{newCertificate, nil, 0o600, "new.example", 1},
		},
		"half written": {
			{newCertificate[:200], newKey, 0o600, "old.example", 1},
			{newCertificate, nil, 0o600, "new.example", 1},
		},
		"chain added": {
			{newCertificate, newKey, 0o600, "new.example", 0},
			{chain, nil, 0o600, "new.example", 0},
		},
		"emptied, restored, emptied": {
			{[]byte{}, nil, 0o600, "old.example", 1},
			{oldCertificate, nil, 0o600, "old.example", 1},
			{[]byte{}, nil, 0o600, "old.example", 2},
		},
		"key open to all": {
			{newCertificate, newKey, 0o644, "old.example", 1},
			{nil, nil, 0o600, "new.example", 1},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				files := newPairFiles(t)
				files.write(t, oldCertificate, oldKey)
				core, logs := observer.New(zap.WarnLevel)
				f := openFiles(files.certificate, files.key, zap.New(core))
				defer f.close()
				for i, step := range steps {
					files.write(t, step.certificate, step.key)
					if err := os.Chmod(files.key, step.mode); err != nil {
						t.Fatal(err)
					}
					time.Sleep(3*watchInterval + time.Millisecond)
					synctest.Wait()
					if shown := f.current.Load().certificate.Leaf.DNSNames[0]; shown != step.want {
						t.Errorf("step %d: %s is shown, want %s", i, shown, step.want)
					}
					if logs.FilterMessageSnippet("keeping the certificate loaded before").Len() != step.warnings {
						t.Errorf("step %d: %v, want %d warnings", i, logs.All(), step.warnings)
					}
				}
			})
		})
	}
}

// TestFilesSettle holds that content seen once, which may be half of what is being written, is not loaded.
func TestFilesSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, files := newPublicCA(t), newPairFiles(t)
		certificate, key := ca.issue(t, "old.example")
		files.write(t, certificate, key)
		f := openFiles(files.certificate, files.key, zap.NewNop())
		defer f.close()
		for i := range 20 {
			certificate, key = ca.issue(t, strconv.Itoa(i)+".example")
			files.write(t, certificate, key)
			time.Sleep(watchInterval)
			synctest.Wait()
			if shown := f.current.Load().certificate.Leaf.DNSNames[0]; shown != "old.example" {
				t.Fatalf("%s was loaded at first sight", shown)
			}
		}
		time.Sleep(watchInterval)
		synctest.Wait()
		if shown := f.current.Load().certificate.Leaf.DNSNames[0]; shown != "19.example" {
			t.Errorf("%s is shown, want what has settled", shown)
		}
	})
}

// TestCertbotUnderLoad swaps symlinks as certbot does, one after the other, while clients connect: each handshake
// gets a whole pair.
func TestCertbotUnderLoad(t *testing.T) {
	t.Parallel()
	ca, directory := newPublicCA(t), t.TempDir()
	live, archive := filepath.Join(directory, "live"), filepath.Join(directory, "archive")
	for _, path := range []string{live, archive} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	renew := func(n int) string {
		certificate, key := ca.issue(t, "vps1.example.net")
		for name, content := range map[string][]byte{"fullchain": certificate, "privkey": key} {
			version := name + strconv.Itoa(n) + ".pem"
			if err := os.WriteFile(filepath.Join(archive, version), content, 0o600); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(live, name+".pem")
			if err := os.Symlink(filepath.Join("..", "archive", version), link+".new"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(link+".new", link); err != nil {
				t.Fatal(err)
			}
		}
		block, _ := pem.Decode(certificate)
		return string(block.Bytes)
	}
	renew(1)
	files := pairFiles{filepath.Join(live, "fullchain.pem"), filepath.Join(live, "privkey.pem")}
	m := open(t, files.options(filepath.Join(directory, "state")))
	stop := load(t, m.TLSConfig(), ca.pool, "vps1.example.net", "vps1.example.net")
	for n := range 2 {
		want := renew(n + 2)
		deadline := time.Now().Add(30 * time.Second)
		for shownDER := ""; shownDER != want; {
			state, err := dial(m.TLSConfig(), &tls.Config{ServerName: "vps1.example.net", RootCAs: ca.pool}, direct)
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("renewal %d is not shown: %v", n, err)
			}
			shownDER = string(state.PeerCertificates[0].Raw)
		}
	}
	t.Logf("2 renewals over %d handshakes", stop())
}

// TestFilesOfOddKinds: what would be waited for, or fill the memory, or leave nobody able to shake hands, is refused.
func TestFilesOfOddKinds(t *testing.T) {
	ca, files := newPublicCA(t), newPairFiles(t)
	certificate, key := ca.issue(t, "vps1.example.net")
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.root.Raw})
	large := []byte(strings.Repeat("# comment\n", maxPEM/10+1))
	tests := map[string]struct {
		set  func(t *testing.T)
		want string
	}{
		"a long chain": {func(t *testing.T) {
			files.write(t, append(slices.Clone(certificate), bytes.Repeat(root, maxChain)...), key)
		}, "the chain has 11 certificates"},
		"a large file": {func(t *testing.T) { files.write(t, append(large, certificate...), key) }, "is larger than"},
		"a pipe": {func(t *testing.T) {
			if err := errors.Join(os.Remove(files.certificate), syscall.Mkfifo(files.certificate, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "is not a regular file"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			files.write(t, certificate, key)
			test.set(t)
			defer os.Remove(files.certificate)
			done := make(chan error, 1)
			go func() {
				_, err := readPair(files.certificate, files.key)
				done <- err
			}()
			select {
			case err := <-done:
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want %q", err, test.want)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("hangs")
			}
		})
	}
}
