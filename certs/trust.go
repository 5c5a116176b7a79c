package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// anchorPrefix begins the names of the files that are ours in a system's store. What follows tells one CA from
// another: a store that is told of changed content under an old name (Debian's) leaves its links by hash as they
// were.
const anchorPrefix = "smtpwall-local-ca-"

// TrustOptions says which CA to trust, and where.
type TrustOptions struct {
	// Directory is that of Options. TrustRemove does not need it.
	Directory string
	// Root is the root directory of the system whose store is meant, a container's image say; empty is "/".
	Root string
}

// TrustReport says what TrustInstall or TrustRemove did.
type TrustReport struct {
	Store   string   // the kind of store, such as "Red Hat"
	Paths   []string // the files put in or taken out, as seen below Root
	Changed bool     // false if all was so before
	Advice  []string // lines for programs that do not read the system's store
}

// TrustInstall puts the root of the local CA into the system's store, in the place of any earlier one of this host,
// and has the system make its bundles anew. It needs root's rights, and of the local CA it reads the certificate
// alone. Doing it twice is no error.
func TrustInstall(ctx context.Context, options TrustOptions) (TrustReport, error) {
	root, store, err := options.store()
	if err != nil {
		return TrustReport{}, err
	}
	content, certificate, err := readRoot(options.Directory)
	if err != nil {
		return TrustReport{}, err
	}
	path := filepath.Join(store.anchors, anchorPrefix+shortID(certificate.SubjectKeyId)+store.suffix)
	earlier, err := store.installed(root)
	if err != nil {
		return TrustReport{}, err
	}
	report := TrustReport{Store: store.name, Paths: []string{path}, Advice: trustAdvice(path, store)}
	have, err := os.ReadFile(filepath.Join(root, path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return TrustReport{}, err
	}
	report.Changed = !bytes.Equal(have, content) || len(earlier) != 1
	replaced := slices.DeleteFunc(earlier, func(p string) bool { return p == path })
	// Its temporary file is hidden, as it must be: Alpine takes every other file for a CA.
	err = durable.WriteFile(durable.OS{}, filepath.Join(root, path), content, 0o644)
	if err := errors.Join(err, removeAll(root, replaced)); err != nil {
		return TrustReport{}, fmt.Errorf("writing into the store: %w", err)
	}
	// Even if nothing changed: an update that failed the last time is made up for.
	if err := store.refresh(ctx, root, replaced); err != nil {
		return TrustReport{}, err
	}
	return report, store.expect(root, certificate.Raw, true)
}

// TrustRemove takes every local CA of smtpwall out of the system's store. Doing it twice is no error.
func TrustRemove(ctx context.Context, options TrustOptions) (TrustReport, error) {
	root, store, err := options.store()
	if err != nil {
		return TrustReport{}, err
	}
	found, err := store.installed(root)
	if err != nil || len(found) == 0 {
		return TrustReport{Store: store.name}, err
	}
	kept, err := readAll(root, found)
	if err == nil {
		err = removeAll(root, found)
	}
	if err != nil {
		return TrustReport{}, fmt.Errorf("taking out of the store: %w", err)
	}
	if err = store.refresh(ctx, root, found); err == nil {
		err = store.expectNone(root, kept)
	}
	if err != nil {
		// The bundle still holds what is no longer listed. Put back, it is found the next time.
		return TrustReport{}, errors.Join(err, writeAll(root, kept))
	}
	return TrustReport{Store: store.name, Paths: found, Changed: true}, nil
}

func (o TrustOptions) store() (root string, store trustStore, err error) {
	root = filepath.Join("/", o.Root)
	store, err = findTrustStore(root)
	return root, store, err
}

// readRoot returns the root certificate, as PEM without anything that stood around it, and parsed.
func readRoot(directory string) ([]byte, *x509.Certificate, error) {
	path := RootFile(directory)
	text, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("there is no local CA yet, it is made when smtpwall first starts: %w", err)
	}
	if err != nil {
		return nil, nil, err
	}
	certificate, err := parseCertificate(text)
	if err == nil && !certificate.IsCA {
		err = errors.New("not a CA's certificate")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}), certificate, nil
}

// maxRoot bounds the root certificate's file.
const maxRoot = 64 << 10

// readSmall reads a file that another user may have put there: no link, no pipe
// and no device, and not without end.
func readSmall(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxRoot {
		return nil, fmt.Errorf("%s is no certificate file", path)
	}
	return io.ReadAll(io.LimitReader(file, maxRoot))
}

// readAll returns the contents of the files, by path.
func readAll(root string, paths []string) (map[string][]byte, error) {
	contents := map[string][]byte{}
	var errs []error
	for _, path := range paths {
		content, err := os.ReadFile(filepath.Join(root, path))
		contents[path], errs = content, append(errs, err)
	}
	return contents, errors.Join(errs...)
}

func writeAll(root string, contents map[string][]byte) error {
	var errs []error
	for path, content := range contents {
		errs = append(errs, durable.WriteFile(durable.OS{}, filepath.Join(root, path), content, 0o644))
	}
	return errors.Join(errs...)
}

func removeAll(root string, paths []string) error {
	var errs []error
	for _, path := range paths {
		errs = append(errs, os.Remove(filepath.Join(root, path)))
	}
	return errors.Join(errs...)
}

// trustAdvice says what programs with a store of their own need.
func trustAdvice(anchor string, store trustStore) []string {
	return []string{
		"Programs that run already read the store when they start: restart them.",
		"Node.js: NODE_EXTRA_CA_CERTS=" + anchor,
		"Python with requests or certifi: REQUESTS_CA_BUNDLE=" + store.bundle + " and SSL_CERT_FILE=" + store.bundle,
		"Java, unless the distribution keeps its store too: keytool -importcert -cacerts -noprompt -alias smtpwall -file " +
			anchor,
		"Containers: mount " + store.bundle + " read-only over theirs, or install the CA in the image.",
	}
}
