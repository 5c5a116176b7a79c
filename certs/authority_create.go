package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/smtpwall/smtpwall/internal/durable"
	"golang.org/x/sys/unix"
)

// unfinishedPrefix names a CA that is being made. One that was killed leaves it behind; it is swept once a CA stands.
const unfinishedPrefix = authorityDirectory + ".new-"

// createAuthority makes a new CA. Key and certificate are written and synced in a directory of their own, which is
// then renamed into place: a rename onto a directory with files in it fails, so of two processes that race one wins,
// the other uses its CA, and a kill at any moment leaves either no CA or a whole one.
func createAuthority(o authorityOptions) error {
	keyPEM, rootPEM, err := newRoot(o)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.directory, 0o700); err != nil {
		return err
	}
	if err := closedDirectory(o.directory); err != nil {
		return err
	}
	unfinished, err := os.MkdirTemp(o.directory, unfinishedPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(unfinished)
	if err := writeRoot(unfinished, keyPEM, rootPEM); err != nil {
		return err
	}
	err = unix.Rename(unfinished, filepath.Join(o.directory, authorityDirectory))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil // another process was first
	}
	if err != nil {
		return fmt.Errorf("renaming %s: %w", unfinished, err)
	}
	sweepUnfinished(o.directory)
	return durable.OS{}.SyncDir(o.directory)
}

func newRoot(o authorityOptions) (keyPEM, rootPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template, err := rootTemplate(o, key.Public())
	if err != nil {
		return nil, nil, err
	}
	root, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}), nil
}

func rootTemplate(o authorityOptions, public crypto.PublicKey) (*x509.Certificate, error) {
	id, err := keyID(public)
	if err != nil {
		return nil, err
	}
	permitted, err := parseConstraints(o.names)
	if err != nil {
		return nil, err
	}
	now := o.now()
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"smtpwall"}, CommonName: "smtpwall local CA " + shortID(id)},
		NotBefore:             now.Add(-maxBackdate),
		NotAfter:              now.Add(rootLifetime),
		KeyUsage:              x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, // a stolen key signs no code and no mail
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		SubjectKeyId:          id,
	}
	if !permitted.empty() {
		permitted.addHost(o.host)
		permitted.constrain(template)
	}
	return template, nil
}

func writeRoot(directory string, keyPEM, rootPEM []byte) error {
	disk := durable.OS{}
	if err := durable.WriteFile(disk, filepath.Join(directory, keyFile), keyPEM, 0o600); err != nil {
		return err
	}
	if err := durable.WriteFile(disk, filepath.Join(directory, rootFile), rootPEM, 0o644); err != nil {
		return err
	}
	return os.Chmod(directory, 0o755)
}

// sweepUnfinished removes what killed processes left. One that is still at it finds its files gone, and then the CA.
func sweepUnfinished(directory string) {
	entries, _ := os.ReadDir(directory)
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), unfinishedPrefix) {
			os.RemoveAll(filepath.Join(directory, entry.Name()))
		}
	}
}
