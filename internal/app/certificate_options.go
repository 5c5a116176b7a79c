package app

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/smtpwall/smtpwall/certs"
	"github.com/smtpwall/smtpwall/certs/dns01"
	"github.com/smtpwall/smtpwall/internal/config"
)

// certificateOptions are those of the listeners' certificates. Their directory
// is the spool's neighbour, in the state directory.
func certificateOptions(cfg *config.Config, hostName string) (certs.Options, error) {
	addresses, err := hostAddresses()
	if err != nil {
		return certs.Options{}, fmt.Errorf("reading the host's addresses: %w", err)
	}
	c := cfg.Certificates
	acme, err := acmeOptions(cfg)
	if err != nil {
		return certs.Options{}, err
	}
	return certs.Options{
		Source:             certs.Source(c.Source),
		Directory:          CertificateDirectory(cfg),
		Names:              []string{hostName},
		Addresses:          addresses,
		CertificateFile:    c.Certificate,
		KeyFile:            c.Key,
		ACME:               acme,
		MinVersion:         tlsVersion(c.MinVersion),
		ClientCertificates: slices.ContainsFunc(cfg.Accounts, func(a config.Account) bool { return len(a.Certificates) > 0 }),
		CANames:            c.CANames,
		AllowName:          c.SignsRedirected,
	}, nil
}

func tlsVersion(v config.TLSVersion) uint16 {
	if v == config.TLS13 {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// acmeOptions say whom to ask for certificates, and how; empty with another
// source.
func acmeOptions(cfg *config.Config) (certs.ACMEOptions, error) {
	c := cfg.Certificates
	if c.Source != config.SourceACME {
		return certs.ACMEOptions{}, nil
	}
	options := certs.ACMEOptions{
		Names: c.Names, Email: c.Email, Challenge: string(c.Challenge), WebRoot: c.WebRoot,
		HTTPPort: int(c.HTTPPort), TLSALPNPort: int(c.TLSALPNPort), Hook: c.Hook,
	}
	if c.Challenge == config.ChallengeDNS && len(c.Hook) == 0 {
		options.DNS = dnsUpdate(c.DNS)
	}
	for _, from := range c.Issuers {
		issuer, err := acmeIssuer(from)
		if err != nil {
			return certs.ACMEOptions{}, err
		}
		options.Issuers = append(options.Issuers, issuer)
	}
	return options, nil
}

func acmeIssuer(from config.Issuer) (issuer certs.ACMEIssuer, err error) {
	issuer = certs.ACMEIssuer{
		Directory: from.Directory, EABKeyID: from.EABKeyID, EABKey: from.EABKey.Reveal(),
		PreferredChain: from.PreferredChain, Profile: from.Profile,
	}
	if from.CAFile != "" {
		if issuer.Roots, err = readRoots(from.CAFile); err != nil {
			return issuer, fmt.Errorf("the roots of %s: %w", from.Directory, err)
		}
	}
	return issuer, nil
}

func dnsUpdate(from config.DNSUpdate) *dns01.Update {
	return &dns01.Update{
		Server: from.Server, Zone: from.Zone, KeyName: from.KeyName, Algorithm: from.Algorithm, Key: from.Key.Reveal(),
		Resolvers: from.Resolvers, Propagation: from.Propagation,
	}
}

// CertificateDirectory is where the local CA lives.
func CertificateDirectory(cfg *config.Config) string {
	return filepath.Join(filepath.Dir(cfg.Delivery.Spool), "certs")
}

// hostAddresses are the global addresses of the host's interfaces.
func hostAddresses() ([]netip.Addr, error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var addresses []netip.Addr
	for _, address := range found {
		prefix, err := netip.ParsePrefix(address.String())
		if err == nil && prefix.Addr().IsGlobalUnicast() {
			addresses = append(addresses, prefix.Addr().Unmap())
		}
	}
	return addresses, nil
}
