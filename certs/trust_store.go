package certs

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// trustStore is how one family of distributions takes a CA of the administrator's own.
type trustStore struct {
	name    string
	anchors string   // where the certificate is put
	suffix  string   // that the update looks for
	update  []string // what then makes the bundles
	bundle  string   // what OpenSSL's users read afterwards
	list    string   // where an update that keeps links looks for those to drop; empty if it needs no telling
}

// trustStores are tried in order. Red Hat and Arch come first because their directories exist nowhere else; Debian's
// is under /usr/local, where anybody may have made it.
func trustStores() []trustStore {
	return []trustStore{
		{
			name: "Red Hat", anchors: "/etc/pki/ca-trust/source/anchors", suffix: ".pem",
			update: []string{"update-ca-trust", "extract"}, bundle: "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		},
		{
			name: "Arch", anchors: "/etc/ca-certificates/trust-source/anchors", suffix: ".crt",
			update: []string{"update-ca-trust"}, bundle: "/etc/ssl/certs/ca-certificates.crt",
		},
		{
			name: "Debian or Alpine", anchors: "/usr/local/share/ca-certificates", suffix: ".crt",
			update: []string{"update-ca-certificates"}, bundle: "/etc/ssl/certs/ca-certificates.crt",
			list: "/etc/ca-certificates.conf",
		},
	}
}

// commandDirectories are searched rather than PATH: the command runs as root, and perhaps below another root.
func commandDirectories() []string {
	return []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"}
}

// findTrustStore returns the first store whose directory and command are below root.
func findTrustStore(root string) (trustStore, error) {
	for _, store := range trustStores() {
		info, err := os.Stat(filepath.Join(root, store.anchors))
		if err == nil && info.IsDir() && store.command(root) != "" {
			return store, nil
		}
	}
	return trustStore{}, errors.New("found no system store of trusted CAs (Debian, Alpine, Red Hat or Arch); " +
		"install the package ca-certificates")
}

// command is the path, as seen below root, of the update command, or empty.
func (s trustStore) command(root string) string {
	for _, directory := range commandDirectories() {
		path := filepath.Join(directory, s.update[0])
		if info, err := os.Stat(filepath.Join(root, path)); err == nil && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// refresh runs the update command, with root as its root directory. The anchors in removed are gone already.
func (s trustStore) refresh(ctx context.Context, root string, removed []string) error {
	arguments := s.update[1:]
	if s.list != "" && len(removed) > 0 {
		list, err := s.listWithout(root, removed)
		if err != nil {
			return fmt.Errorf("telling %s what is gone: %w", s.update[0], err)
		}
		defer os.Remove(filepath.Join(root, list))
		arguments = append(arguments, "--certsconf", list)
	}
	command := exec.CommandContext(ctx, s.command(root), arguments...)
	command.Dir = "/"
	command.Env = []string{"PATH=" + strings.Join(commandDirectories(), ":"), "LC_ALL=C"}
	if root != "/" {
		command.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	}
	output, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("running %s: %w: %s", strings.Join(s.update, " "), err, bytes.TrimSpace(output))
	}
	return nil
}

// listWithout makes a temporary list of the system's CAs with the removed ones marked as unwanted. Debian's update
// makes its bundle without an anchor that is gone, but leaves the links to it and does not tell its hooks, so that
// Java would go on trusting it. With --fresh it drops the links, yet tells the hooks that every other CA is new. A
// mark does both, for ours alone. Alpine's update reads no arguments and drops the links by itself.
func (s trustStore) listWithout(root string, removed []string) (string, error) {
	content, err := os.ReadFile(filepath.Join(root, s.list))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	content = append(bytes.TrimRight(content, "\n"), '\n')
	for _, path := range removed {
		content = fmt.Appendf(content, "!%s\n", filepath.Base(path))
	}
	file, err := os.CreateTemp(filepath.Join(root, "/tmp"), "smtpwall-ca-list-")
	if err != nil {
		return "", err
	}
	_, err = file.Write(content)
	return filepath.Join("/tmp", filepath.Base(file.Name())), errors.Join(err, file.Close())
}

// expect returns an error unless the bundle holds the certificate, or does not, as wanted: an update command that
// ignored what it was told would leave a CA trusted that its owner believes is gone.
func (s trustStore) expect(root string, certificate []byte, wanted bool) error {
	rest, err := os.ReadFile(filepath.Join(root, s.bundle))
	if err != nil {
		return fmt.Errorf("checking the system's bundle: %w", err)
	}
	held := false
	for block, rest := pem.Decode(rest); block != nil && !held; block, rest = pem.Decode(rest) {
		held = bytes.Equal(block.Bytes, certificate)
	}
	if held != wanted {
		return fmt.Errorf("%s reported no error, but whether the local CA is in %s: %v, want %v", s.update[0], s.bundle, held, wanted)
	}
	return nil
}

// expectNone is expect for anchors that were taken out; one that held no certificate cannot be in a bundle.
func (s trustStore) expectNone(root string, anchors map[string][]byte) error {
	var errs []error
	for _, content := range anchors {
		if certificate, err := parseCertificate(content); err == nil {
			errs = append(errs, s.expect(root, certificate.Raw, false))
		}
	}
	return errors.Join(errs...)
}

// installed lists the local CAs in the store, as paths below root.
func (s trustStore) installed(root string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(root, s.anchors))
	if err != nil {
		return nil, err
	}
	var found []string
	for _, entry := range entries {
		if name := entry.Name(); strings.HasPrefix(name, anchorPrefix) && strings.HasSuffix(name, s.suffix) {
			found = append(found, filepath.Join(s.anchors, name))
		}
	}
	return found, nil
}
