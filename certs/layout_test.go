package certs

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestLayouts goes through how programs that renew certificates put one in place of another, and looks after each step:
// never is there a certificate without its key, and the new one comes in the end.
func TestLayouts(t *testing.T) {
	ca := newPublicCA(t)
	type layout struct {
		certificate, key string // below the program's directory
		place            func(t *testing.T, directory string, certificate, key []byte, version string) []func()
	}
	inPlace := func(t *testing.T, path string, content []byte) func() {
		return func() { write(t, path, content) }
	}
	renamed := func(t *testing.T, path string, content []byte) func() {
		return func() {
			write(t, path+".tmp", content)
			if err := os.Rename(path+".tmp", path); err != nil {
				t.Fatal(err)
			}
		}
	}
	linked := func(t *testing.T, directory, name, version string, content []byte) func() {
		return func() {
			if err := os.MkdirAll(filepath.Join(directory, "archive"), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(directory, "archive", name+version+".pem"), content)
			link := filepath.Join(directory, "live", name+".pem")
			remove(t, link)
			if err := os.Symlink(filepath.Join("..", "archive", name+version+".pem"), link); err != nil {
				t.Fatal(err)
			}
		}
	}
	layouts := map[string]layout{
		// certbot unlinks each link and makes it anew: the key's, then the certificate's.
		"certbot": {"live/fullchain.pem", "live/privkey.pem", func(t *testing.T, directory string, certificate, key []byte, version string) []func() {
			return []func(){linked(t, directory, "privkey", version, key), linked(t, directory, "fullchain", version, certificate)}
		}},
		// Caddy renames each file: the key, the certificate, then a description.
		"Caddy": {"live/vps1.example.net.crt", "live/vps1.example.net.key", func(t *testing.T, directory string, certificate, key []byte, _ string) []func() {
			return []func(){renamed(t, filepath.Join(directory, "live/vps1.example.net.key"), sec1(t, key)),
				renamed(t, filepath.Join(directory, "live/vps1.example.net.crt"), certificate)}
		}},
		// lego writes into the files: the certificate, then the key.
		"lego": {"live/vps1.example.net.crt", "live/vps1.example.net.key", func(t *testing.T, directory string, certificate, key []byte, _ string) []func() {
			path := filepath.Join(directory, "live/vps1.example.net.crt")
			return []func(){inPlace(t, path, certificate[:len(certificate)/2]), inPlace(t, path, certificate),
				inPlace(t, filepath.Join(directory, "live/vps1.example.net.key"), sec1(t, key))}
		}},
	}
	for name, l := range layouts {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				directory := t.TempDir()
				mkdir(t, directory, "live")
				core, logs := observer.New(zap.WarnLevel)
				f := openFiles(filepath.Join(directory, l.certificate), filepath.Join(directory, l.key), zap.New(core))
				defer f.close()
				if f.forAnybody() != nil || len(f.conditions(time.Now())) != 1 {
					t.Error("something was loaded from nothing, or is no condition")
				}
				var shown string
				for _, version := range []string{"1.example", "2.example", "3.example"} {
					certificate, key := ca.issue(t, version)
					before := shown
					for _, step := range l.place(t, directory, certificate, key, version) {
						step()
						time.Sleep(3*watchInterval + time.Millisecond)
						synctest.Wait()
						shown = ""
						if c := f.forAnybody(); c != nil {
							shown = c.Leaf.DNSNames[0]
							if !c.PrivateKey.(*ecdsa.PrivateKey).PublicKey.Equal(c.Leaf.PublicKey) {
								t.Fatal("a certificate without its key")
							}
						}
						if shown != before && shown != version {
							t.Errorf("%q is shown between %q and %q", shown, before, version)
						}
					}
					if shown != version || len(f.conditions(time.Now())) != 0 || f.status()[0].LastError != "" {
						t.Errorf("%q is shown, want %q; conditions %v", shown, version, f.conditions(time.Now()))
					}
				}
				if logs.Len() == 0 {
					t.Error("nothing was said about files that did not match")
				}
			})
		})
	}
}

// sec1 is the form of keys that Caddy and lego write.
func sec1(t *testing.T, pkcs8 []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(pkcs8)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// TestFilesExpired: a certificate that has ended is not shown where the local CA's can be.
func TestFilesExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, files := newPublicCA(t), newPairFiles(t)
		certificate, key := ca.issueFor(t, time.Hour, "vps1.example.net")
		files.write(t, certificate, key)
		f := openFiles(files.certificate, files.key, zap.NewNop())
		defer f.close()
		if f.forName("vps1.example.net") == nil {
			t.Error("the certificate is not shown")
		}
		time.Sleep(time.Hour)
		if f.forName("vps1.example.net") != nil || f.forAnybody() != nil {
			t.Error("an expired certificate is shown")
		}
		if text := f.conditions(time.Now())["certificate vps1.example.net"]; text == "" {
			t.Error("no condition")
		}
		certificate, key = ca.issue(t, "vps1.example.net")
		files.write(t, certificate, key)
		if err := f.reread(); err != nil || f.forAnybody() == nil {
			t.Errorf("read again by hand: %v", err)
		}
	})
}
