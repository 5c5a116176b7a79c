package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// namePrefix begins the names by which stores know our CAs: those of anchors' files, aliases and nicknames. What
// follows tells one CA from another: a store that is told of changed content under an old name (Debian's) leaves its
// links by hash as they were.
const namePrefix = "smtpwall-local-ca-"

// The subject of every local CA; what follows the prefix tells them apart.
const (
	organization     = "smtpwall"
	commonNamePrefix = "smtpwall local CA "
)

// maxCertificate bounds the root certificate's file.
const maxCertificate = 64 << 10

// authority is a local CA as stores see it.
type authority struct {
	name string // in stores, after namePrefix the beginning of its key's identifier
	der  []byte
	pem  []byte // nothing stands around it
}

// readAuthority reads the local CA that is to be trusted.
func readAuthority(path string) (authority, error) {
	text, err := durable.ReadSmall(path, maxCertificate, syscall.O_NOFOLLOW) // the proxy's user may have put it there
	if errors.Is(err, fs.ErrNotExist) {
		return authority{}, fmt.Errorf("there is no local CA yet, it is made when smtpwall first starts: %w", err)
	}
	if err != nil {
		return authority{}, err
	}
	certificate, err := parse(text)
	switch {
	case err != nil:
	case !certificate.IsCA:
		err = errors.New("not a CA's certificate")
	case !ours(certificate):
		err = fmt.Errorf("not a local CA of smtpwall but %s", certificate.Subject)
	}
	if err != nil {
		return authority{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return newAuthority(certificate), nil
}

func newAuthority(certificate *x509.Certificate) authority {
	id := certificate.SubjectKeyId
	return authority{
		name: namePrefix + hex.EncodeToString(id[:min(len(id), 4)]),
		der:  certificate.Raw,
		pem:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}),
	}
}

// isName reports whether a name in a store is one that we give.
func isName(name string) bool {
	id, ok := strings.CutPrefix(name, namePrefix)
	return ok && id != "" && strings.Trim(id, "0123456789abcdef") == ""
}

// parse reads the first certificate of a PEM text.
func parse(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

// parseAll reads the certificates of a bundle that are ours.
func parseAll(bundle []byte) (found []*x509.Certificate) {
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		// Parsing costs; nothing else carries these words.
		if !bytes.Contains(block.Bytes, []byte(commonNamePrefix)) {
			continue
		}
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil && ours(certificate) {
			found = append(found, certificate)
		}
	}
	return found
}

// ours reports whether a certificate is that of a local CA of smtpwall, of this host or of another.
func ours(certificate *x509.Certificate) bool {
	return slices.Equal(certificate.Subject.Organization, []string{organization}) &&
		strings.HasPrefix(certificate.Subject.CommonName, commonNamePrefix)
}
