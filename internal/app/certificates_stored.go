package app

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/smtpwall/smtpwall/certs"
	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/durable"
)

// StoredCertificates are those in files, while no proxy tells which are shown:
// of the host's own files, of a CA, and the root of the local CA, whose other
// certificates are in no file. What cannot be read is told by the error, beside
// the rest.
func StoredCertificates(cfg *config.Config) ([]admin.Certificate, error) {
	directory := CertificateDirectory(cfg)
	var all []admin.Certificate
	var errs []error
	read := func(path, source string) {
		c, err := readCertificate(path, source)
		if err == nil {
			all = append(all, c)
		} else if !errors.Is(err, fs.ErrNotExist) || source == string(config.SourceFiles) {
			errs = append(errs, err)
		}
	}
	switch cfg.Certificates.Source {
	case config.SourceFiles:
		read(cfg.Certificates.Certificate, string(config.SourceFiles))
	case config.SourceACME:
		paths, err := issuedFiles(issuedDirectory(cfg))
		for _, path := range paths {
			read(path, string(config.SourceACME))
		}
		errs = append(errs, err)
	}
	read(certs.RootFile(directory), "local-ca")
	return all, errors.Join(errs...)
}

// issuedDirectory has what CAs issued.
func issuedDirectory(cfg *config.Config) string {
	return filepath.Join(CertificateDirectory(cfg), "acme", "certificates")
}

// issuedFiles are the certificates that CAs issued, by issuer.
func issuedFiles(directory string) (paths []string, err error) {
	err = filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && filepath.Ext(path) == ".crt" {
			paths = append(paths, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return paths, err
}

// maxCertificateFile is far more than a chain has, in bytes.
const maxCertificateFile = 1 << 20

// readCertificate reads the first certificate of a PEM file, which the proxy's
// user may have put there and root reads.
func readCertificate(path, source string) (admin.Certificate, error) {
	text, err := durable.ReadSmall(path, maxCertificateFile, 0)
	if err != nil {
		return admin.Certificate{}, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return admin.Certificate{}, fmt.Errorf("%s has no certificate in PEM", path)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return admin.Certificate{}, fmt.Errorf("%s: %w", path, err)
	}
	return describeStored(leaf, source), nil
}

func describeStored(leaf *x509.Certificate, source string) admin.Certificate {
	names := slices.Clone(leaf.DNSNames)
	for _, address := range leaf.IPAddresses {
		names = append(names, address.String())
	}
	if leaf.IsCA || len(names) == 0 {
		names = []string{leaf.Subject.CommonName}
	}
	fingerprint := sha256.Sum256(leaf.Raw)
	return admin.Certificate{
		Name: names[0], Names: names, Source: source, Issuer: leaf.Issuer.CommonName,
		Serial: leaf.SerialNumber.Text(16), Fingerprint: hex.EncodeToString(fingerprint[:]),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
	}
}
