package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// keystorePassword is that of every JDK's keystore of CAs until somebody changes it. It keeps nothing secret: what is
// in there is public, and the file's mode says who may write.
const keystorePassword = "changeit"

// jdkPatterns are where JDKs and JREs lie, in Debian, Red Hat, SUSE, Oracle's packages, and by hand.
func jdkPatterns() []string {
	return []string{"/usr/lib/jvm/*", "/usr/lib64/jvm/*", "/usr/java/*", "/opt/*", "/opt/java/*", "/opt/jdk/*", "/opt/jvm/*"}
}

// keystore is the file in which a JDK has the CAs that its programs trust.
type keystore struct {
	path string // no link
	tool string // keytool, no link; empty if there is none
	kept bool   // by the distribution, if its hook is installed
	left error  // why it is not touched
}

// findKeystores looks for the keystores of JDKs, each once: most of a distribution's lead to the one that it keeps up.
func findKeystores(homes []string, system *system) []keystore {
	for _, pattern := range jdkPatterns() {
		found, _ := filepath.Glob(pattern)
		homes = append(slices.Clone(homes), found...)
	}
	var stores []keystore
	tool := "" // of any JDK, for those that have none
	for _, home := range homes {
		k, ok := openKeystore(home, system)
		if !ok {
			continue
		}
		if tool == "" && k.left == nil {
			tool = k.tool
		}
		at := slices.IndexFunc(stores, func(other keystore) bool { return other.path == k.path })
		switch {
		case at < 0:
			stores = append(stores, k)
		case stores[at].left != nil || stores[at].tool == "": // another JDK leads there too, perhaps a better one
			stores[at] = k
		}
	}
	for i := range stores {
		if stores[i].tool == "" && stores[i].left == nil {
			stores[i].tool = tool
		}
	}
	return stores
}

// openKeystore finds the keystore of the JDK in home. There, only root may be able to change anything: its keytool is
// about to run as root.
func openKeystore(home string, system *system) (k keystore, ok bool) {
	for _, below := range []string{"", "jre"} { // Java 8 has its own below jre
		path := filepath.Join(home, below, "lib/security/cacerts")
		end, err := filepath.EvalSymlinks(path)
		if err != nil {
			continue
		}
		k = keystore{path: end, kept: system != nil && end == system.java}
		_, k.left = keptByRoot(path)
		for _, name := range []string{"bin/keytool", "jre/bin/keytool"} {
			tool, err := keptByRoot(filepath.Join(home, name))
			switch {
			case err == nil && k.tool == "":
				k.tool = tool
			case err != nil && !errors.Is(err, os.ErrNotExist) && k.left == nil:
				k.left = err
			}
		}
		return k, true
	}
	return keystore{}, false
}

func (k keystore) place() Place { return Place{Store: "Java", Path: k.path} }

// usable returns an error that says why the store is left alone.
func (k keystore) usable() error {
	switch {
	case k.left != nil:
		return errLeft(fmt.Sprintf("left alone, since root must not run what others can change: %v", k.left))
	case k.tool == "":
		return errLeft("left alone: there is no keytool")
	}
	return nil
}

// held lists our CAs, under whatever alias: a distribution's hook has names of its own.
func (k keystore) held(ctx context.Context) ([]entry, error) {
	if err := k.usable(); err != nil {
		return nil, err
	}
	all, err := k.list(ctx, k.path)
	if errors.Is(err, errPassword) {
		return nil, nil // so that we cannot have put anything in
	}
	return mine(all), err
}

// mine are the entries that are our CAs.
func mine(all map[string][]byte) (found []entry) {
	for _, alias := range slices.Sorted(maps.Keys(all)) {
		if certificate, err := parse(all[alias]); err == nil && ours(certificate) {
			found = append(found, entry{name: alias, der: certificate.Raw, trusted: true})
		}
	}
	return found
}

var errPassword = errors.New("its password is not the usual one, " + keystorePassword)

// list gives the certificates of a keystore as PEM, by alias.
func (k keystore) list(ctx context.Context, path string) (map[string][]byte, error) {
	output, err := k.keytool("-list", "-rfc", path).run(ctx)
	if err != nil && bytes.Contains(output, []byte("password was incorrect")) {
		return nil, errPassword
	}
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	alias := ""
	for line := range bytes.Lines(output) {
		if name, ok := strings.CutPrefix(string(line), "Alias name: "); ok {
			alias = strings.TrimRight(name, "\n")
			continue
		}
		if alias != "" {
			all[alias] = append(all[alias], line...)
		}
	}
	return all, nil
}

// keytool prepares a command on a keystore. The language is set because its words are read.
func (k keystore) keytool(verb, option, path string, args ...string) command {
	words := []string{"-J-Duser.language=en", verb}
	if option != "" {
		words = append(words, option)
	}
	words = append(words, "-keystore", path, "-storepass", keystorePassword)
	return command{path: k.tool, args: append(words, args...)}
}

// change works on a copy, looks at it, and renames it into place: keytool writes over the file that it is given, and
// one that was killed meanwhile would leave a JDK without any CA.
func (k keystore) change(ctx context.Context, h *hand, add *authority, drop []entry) error {
	if h.dry {
		if k.kept {
			h.note("see whether the update has done this already; else:")
		}
		err := k.edit(ctx, h, "COPY", add, drop)
		h.note("write %s", k.path)
		return err
	}
	before, err := k.list(ctx, k.path)
	if err != nil {
		return k.explain(err, add)
	}
	directory, err := os.MkdirTemp("", "smtpwall-keystore-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(directory) }()
	content, err := os.ReadFile(k.path)
	if err != nil {
		return err
	}
	edited := filepath.Join(directory, "cacerts")
	if err := os.WriteFile(edited, content, 0o600); err != nil {
		return err
	}
	if err := k.edit(ctx, h, edited, add, drop); err != nil {
		return err
	}
	if err := k.check(ctx, edited, before, add); err != nil {
		return err
	}
	return k.replace(h, edited)
}

// edit is what keytool does.
func (k keystore) edit(ctx context.Context, h *hand, path string, add *authority, drop []entry) error {
	for _, e := range drop {
		if err := h.run(ctx, k.keytool("-delete", "", path, "-alias", e.name)); err != nil {
			return err
		}
	}
	if add == nil {
		return nil
	}
	c := k.keytool("-importcert", "-noprompt", path, "-alias", add.name)
	c.input = add.pem
	return h.run(ctx, c)
}

// check returns an error unless an edited keystore holds what it held, and of ours what it should.
func (k keystore) check(ctx context.Context, edited string, before map[string][]byte, add *authority) error {
	after, err := k.list(ctx, edited)
	if err != nil {
		return fmt.Errorf("checking what keytool did: %w", err)
	}
	held := mine(after)
	if add == nil && len(held) > 0 || add != nil && (len(held) != 1 || !held[0].is(*add)) {
		return fmt.Errorf("keytool reported no error, but the keystore would hold %q", names(held))
	}
	for _, all := range []map[string][]byte{before, after} {
		for _, e := range mine(all) {
			delete(all, e.name)
		}
	}
	foreign := func(all map[string][]byte) []string { return slices.Sorted(maps.Keys(all)) }
	if !slices.Equal(foreign(before), foreign(after)) {
		return errors.New("keytool reported no error, but other CAs would have changed too")
	}
	return nil
}

func (k keystore) replace(h *hand, edited string) error {
	info, err := os.Stat(k.path)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(edited)
	if err != nil {
		return err
	}
	h.note("write %s", k.path)
	return durable.WriteFile(durable.OS{}, k.path, content, info.Mode().Perm())
}

// explain says what an administrator can do about a keystore that we cannot open.
func (k keystore) explain(err error, add *authority) error {
	if !errors.Is(err, errPassword) || add == nil {
		return err
	}
	return fmt.Errorf("%w; with its own: %s -importcert -keystore %s -alias %s -file FILE", err, k.tool, k.path, add.name)
}
