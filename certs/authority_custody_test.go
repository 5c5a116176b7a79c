package certs

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const (
	serviceUID  = 65534
	strangerUID = 65533
)

// TestCustody starts a process of the service's user in a directory that is not in its hands alone. The test needs root.
func TestCustody(t *testing.T) {
	tests := []struct {
		name   string
		change func(directory, authority, key string) error
		want   string // a part of what it says; "" it starts
	}{
		{"in our hands", func(_, _, _ string) error { return nil }, ""},
		{"directory of root", func(directory, _, _ string) error { return os.Chown(directory, 0, 0) }, ""},
		{"key of another", func(_, _, key string) error {
			return errors.Join(os.Chown(key, strangerUID, strangerUID), os.Chmod(key, 0o644))
		}, "root.key belongs to uid 65533, and this process runs as uid 65534; chown it"},
		{"key of root, open to our group", func(_, _, key string) error {
			return errors.Join(os.Chown(key, 0, serviceUID), os.Chmod(key, 0o640))
		}, "root.key belongs to uid 0"},
		{"key open to others", func(_, _, key string) error { return os.Chmod(key, 0o604) }, "others may have read it; chmod 0600"},
		{"local-ca of another", func(_, authority, _ string) error { return os.Chown(authority, strangerUID, 0) },
			"local-ca belongs to uid 65533, who may replace the local CA's key in it; chown it"},
		{"directory of another", func(directory, _, _ string) error { return os.Chown(directory, strangerUID, 0) },
			"certs belongs to uid 65533, who may replace"},
		{"local-ca open to a group", func(_, authority, _ string) error { return os.Chmod(authority, 0o775) },
			"local-ca has mode 0775, so others may replace the local CA's key in it; chmod 0755"},
		{"directory open to all", func(directory, _, _ string) error { return os.Chmod(directory, 0o777) },
			"certs has mode 0777, so others may replace the local CA's key in it; chmod 0755"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			directory := filepath.Join(t.TempDir(), "certs")
			if err := os.Chmod(filepath.Dir(filepath.Dir(directory)), 0o711); err != nil {
				t.Fatal(err)
			}
			open(t, Options{Directory: directory})
			authority := filepath.Join(directory, authorityDirectory)
			key := filepath.Join(authority, keyFile)
			for _, path := range []string{directory, authority, key, RootFile(directory)} {
				if err := os.Chown(path, serviceUID, serviceUID); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(directory, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := test.change(directory, authority, key); err != nil {
				t.Fatal(err)
			}
			before := digestTree(t, directory)
			m := startMaker(t, directory, &syscall.Credential{Uid: serviceUID, Gid: serviceUID})
			m.start()
			said, _ := m.output.ReadString('\n')
			if err := m.command.Wait(); (err == nil) != (test.want == "") || !strings.Contains(said, test.want) {
				t.Errorf("said %q: %v; want %q", said, err, test.want)
			}
			if digestTree(t, directory) != before {
				t.Error("the files were touched")
			}
		})
	}
}

// TestNoCAInAnOpenDirectory: where others may write, no CA is made at all.
func TestNoCAInAnOpenDirectory(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "certs")
	if err := errors.Join(os.Mkdir(directory, 0o700), os.Chmod(directory, 0o770)); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), Options{Directory: directory})
	if err == nil || !strings.Contains(err.Error(), "making the local CA: ") || !strings.Contains(err.Error(), "certs has mode 0770") {
		t.Errorf("opened: %v", err)
	}
	if entries, err := os.ReadDir(directory); err != nil || len(entries) != 0 {
		t.Errorf("%v in the directory: %v", entries, err)
	}
}

// TestRootOpensAnyOwners: commands that root runs look at what belongs to the service's user.
func TestRootOpensAnyOwners(t *testing.T) {
	directory := t.TempDir()
	open(t, Options{Directory: directory})
	for _, path := range []string{directory, filepath.Join(directory, authorityDirectory), filepath.Join(directory, authorityDirectory, keyFile)} {
		if err := os.Chown(path, serviceUID, serviceUID); err != nil {
			t.Fatal(err)
		}
	}
	if err := (Options{Directory: directory}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestKeyStaysInside: nothing that is said, shown or logged, at any level, has the key in it, good or damaged.
func TestKeyStaysInside(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	directory := t.TempDir()
	o := Options{Directory: directory, Names: []string{"vps1.example.net"}, Logger: zap.New(core)}
	m := open(t, o)
	shown(t, m, "smtp.example.com", foreign4)
	shown(t, m, "*.example.com", foreign4)
	file := filepath.Join(directory, authorityDirectory, keyFile)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	said := []string{}
	for _, c := range m.Status() {
		said = append(said, c.Name, c.Issuer, c.Fingerprint, c.Serial, c.LastError)
		said = append(said, c.Names...)
	}
	for _, damaged := range []string{string(text[:len(text)/2]), strings.ReplaceAll(string(text), "M", "N"), strings.Split(string(text), "\n")[1]} {
		if err := os.WriteFile(file, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := m.Reload(o); err != nil {
			said = append(said, err.Error())
		}
	}
	for _, entry := range logs.All() {
		said = append(said, entry.Message)
		for _, value := range entry.ContextMap() {
			said = append(said, fmt.Sprint(value))
		}
	}
	block, _ := pem.Decode(text)
	secret := strings.Split(string(text), "\n")[1][20:40] // of the key's middle, in base64
	for _, s := range said {
		if strings.Contains(s, secret) || strings.Contains(s, string(block.Bytes[40:60])) {
			t.Errorf("the key is in %q", s)
		}
	}
	if len(said) < 10 {
		t.Errorf("only %d things were said", len(said))
	}
}
