package trust

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// system is the store of one family of distributions, and how it takes a CA of the administrator's own.
type system struct {
	name    string
	anchors string   // where the certificate is put
	suffix  string   // that the update looks for
	update  []string // what then makes the bundles
	bundle  string   // what OpenSSL's users read afterwards
	list    string   // where an update that keeps links looks for those to drop; empty if it needs no telling
	java    string   // the keystore that the update keeps up too, where Java is installed
	// sharesNSS says that the distribution's NSS programs read this store (p11-kit), and need no entry of their own.
	sharesNSS bool
}

// systems are tried in order. Debian's comes last: the directories of the others exist nowhere else, its own is under
// /usr/local, where anybody may have made it.
func systems() []system {
	return []system{
		{
			name: "Red Hat", anchors: "/etc/pki/ca-trust/source/anchors", suffix: ".pem",
			update: []string{"update-ca-trust", "extract"}, bundle: "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
			java: "/etc/pki/ca-trust/extracted/java/cacerts", sharesNSS: true,
		},
		{
			name: "Arch", anchors: "/etc/ca-certificates/trust-source/anchors", suffix: ".crt",
			update: []string{"update-ca-trust"}, bundle: "/etc/ssl/certs/ca-certificates.crt",
			java: "/etc/ca-certificates/extracted/java-cacerts.jks", sharesNSS: true,
		},
		{
			name: "SUSE", anchors: "/etc/pki/trust/anchors", suffix: ".pem",
			update: []string{"update-ca-certificates"}, bundle: "/var/lib/ca-certificates/ca-bundle.pem",
			java: "/var/lib/ca-certificates/java-cacerts", sharesNSS: true,
		},
		{
			name: "Debian or Alpine", anchors: "/usr/local/share/ca-certificates", suffix: ".crt",
			update: []string{"update-ca-certificates"}, bundle: "/etc/ssl/certs/ca-certificates.crt",
			list: "/etc/ca-certificates.conf", java: "/etc/ssl/certs/java/cacerts",
		},
	}
}

// errNoSystem says that there is no store that we know.
var errNoSystem = errors.New("found no system store of trusted CAs (Debian, Alpine, Red Hat, SUSE or Arch); " +
	"install the package ca-certificates")

// findSystem returns the first store whose directory and command are there. Without one, a CA of ours that lies in a
// store's directory nevertheless is an error of its own.
func findSystem() (system, error) {
	for _, s := range systems() {
		info, err := os.Stat(s.anchors)
		if err == nil && info.IsDir() && commandPath(s.update[0]) != "" {
			return s, nil
		}
	}
	for _, s := range systems() {
		if left, err := s.anchored(); err == nil && len(left) > 0 {
			return system{}, fmt.Errorf("%s holds %s, but there is no %s", s.anchors, strings.Join(names(left), ", "), s.update[0])
		}
	}
	return system{}, errNoSystem
}

func (s system) place() Place { return Place{Store: s.name, Path: s.anchors} }

// anchor is the file of a CA.
func (s system) anchor(name string) string { return filepath.Join(s.anchors, name+s.suffix) }

// held finds anchors, and what is in the bundle without one: an update that failed, or never came, may have left it.
func (s system) held(context.Context) ([]entry, error) {
	entries, err := s.anchored()
	if err != nil {
		return nil, err
	}
	bundled, err := s.bundled()
	if err != nil {
		return nil, err
	}
	for _, certificate := range bundled {
		at := slices.IndexFunc(entries, func(e entry) bool { return bytes.Equal(e.der, certificate.Raw) })
		if at >= 0 {
			entries[at].trusted = true
			continue
		}
		entries = append(entries, entry{name: newAuthority(certificate).name, der: certificate.Raw, trusted: true})
	}
	return entries, nil
}

// anchored lists the anchors that are ours by name and, as far as they can be read, by content.
func (s system) anchored() ([]entry, error) {
	files, err := os.ReadDir(s.anchors)
	if err != nil {
		return nil, err
	}
	var found []entry
	for _, file := range files {
		name, ok := strings.CutSuffix(file.Name(), s.suffix)
		if !ok || !strings.HasPrefix(name, namePrefix) {
			continue
		}
		content, err := os.ReadFile(s.anchor(name))
		if err != nil {
			return nil, err
		}
		e := entry{name: name}
		if certificate, err := parse(content); err == nil {
			if !ours(certificate) {
				continue
			}
			e.der = certificate.Raw
		}
		found = append(found, e)
	}
	return found, nil
}

// bundled are our CAs in the bundle.
func (s system) bundled() ([]*x509.Certificate, error) {
	bundle, err := os.ReadFile(s.bundle)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the system's bundle: %w", err)
	}
	return parseAll(bundle), nil
}

// change writes and removes anchors and has the system make its bundles anew, even if no anchor changed: an update that
// failed the last time is made up for.
func (s system) change(ctx context.Context, h *hand, add *authority, drop []entry) error {
	if add != nil {
		// Its temporary file is hidden, as it must be: Alpine takes every other file for a CA.
		if err := h.write(s.anchor(add.name), add.pem, 0o644); err != nil {
			return fmt.Errorf("writing into the store: %w", err)
		}
		drop = slices.DeleteFunc(slices.Clone(drop), func(e entry) bool { return e.name == add.name })
	}
	kept, err := s.takeOut(h, drop)
	if err == nil {
		err = s.refresh(ctx, h, drop)
	}
	if err == nil && !h.dry {
		err = s.check(add, drop)
	}
	if err != nil && add == nil {
		// The bundle still holds what is no longer listed. Put back, it is found the next time.
		return errors.Join(err, writeAll(kept))
	}
	return err
}

// takeOut removes anchors and returns what was in them. A CA that is only in the bundle has none.
func (s system) takeOut(h *hand, drop []entry) (kept map[string][]byte, err error) {
	kept = map[string][]byte{}
	for _, e := range drop {
		path := s.anchor(e.name)
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			kept[path], err = content, h.remove(path)
		}
		if err != nil {
			return kept, fmt.Errorf("taking out of the store: %w", err)
		}
	}
	return kept, nil
}

func writeAll(contents map[string][]byte) error {
	var errs []error
	for path, content := range contents {
		errs = append(errs, durable.WriteFile(durable.OS{}, path, content, 0o644))
	}
	return errors.Join(errs...)
}

// refresh runs the update command. The anchors of what was dropped are gone already.
func (s system) refresh(ctx context.Context, h *hand, dropped []entry) error {
	update := command{path: commandPath(s.update[0]), args: s.update[1:]}
	if s.list != "" && len(dropped) > 0 {
		list := "LIST"
		h.note("write a temporary copy of %s that marks %s as unwanted", s.list, strings.Join(names(dropped), ", "))
		if !h.dry {
			var err error
			if list, err = s.listWithout(dropped); err != nil {
				return fmt.Errorf("telling %s what is gone: %w", s.update[0], err)
			}
			defer func() { _ = os.Remove(list) }()
		}
		update.args = append(slices.Clone(update.args), "--certsconf", list)
	}
	return h.run(ctx, update)
}

// listWithout makes a temporary list of the system's CAs with the removed ones marked as unwanted. Debian's update
// makes its bundle without an anchor that is gone, but leaves the links to it and does not tell its hooks, so that
// Java would go on trusting it. With --fresh it drops the links, yet tells the hooks that every other CA is new. A
// mark does both, for ours alone. Alpine's update reads no arguments and drops the links by itself.
func (s system) listWithout(removed []entry) (string, error) {
	content, err := os.ReadFile(s.list)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	content = append(bytes.TrimRight(content, "\n"), '\n')
	for _, e := range removed {
		content = fmt.Appendf(content, "!%s%s\n", e.name, s.suffix)
	}
	file, err := os.CreateTemp("/tmp", "smtpwall-ca-list-")
	if err != nil {
		return "", err
	}
	_, err = file.Write(content)
	return file.Name(), errors.Join(err, file.Close())
}

// check returns an error unless the bundle holds what was added and nothing of what was dropped: an update command that
// ignored what it was told would leave a CA trusted that its owner believes is gone.
func (s system) check(added *authority, dropped []entry) error {
	bundled, err := s.bundled()
	if err != nil {
		return err
	}
	holds := func(der []byte) bool {
		return slices.ContainsFunc(bundled, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, der) })
	}
	if added != nil && !holds(added.der) {
		return fmt.Errorf("%s reported no error, but %s does not hold %s", s.update[0], s.bundle, added.name)
	}
	for _, e := range dropped {
		again := added != nil && bytes.Equal(e.der, added.der) // under another name
		if holds(e.der) && !again {
			return fmt.Errorf("%s reported no error, but %s still holds %s", s.update[0], s.bundle, e.name)
		}
	}
	return nil
}
