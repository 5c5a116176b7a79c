package certs

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// maxChain and maxChainOctets bound what is shown in each handshake. Clients of crypto/tls, and others, take no more
	// than 256 KiB, and a server that sends much for a hello is of use to others' attackers.
	maxChain       = 10
	maxChainOctets = 64 << 10
	// clockError is by how much clocks may differ.
	clockError = time.Minute
	// maxEarly is how long before its time a certificate is taken, to be shown when that comes. This host's clock may be
	// the wrong one, and to ask for the same again would end at the CA's limits.
	maxEarly = 24 * time.Hour
)

// checkChain says why a chain from a CA is of no use for name, a wildcard as "*.example.com", with a key.
func checkChain(chainPEM []byte, name string, key crypto.PublicKey, now time.Time) error {
	leaf, err := leafOf(chainPEM)
	if err != nil {
		return err
	}
	public, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(leaf.PublicKey):
		return errors.New("the certificate is for another key")
	case !now.Before(leaf.NotAfter):
		return fmt.Errorf("the certificate ended %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case leaf.NotBefore.After(now.Add(maxEarly)):
		return fmt.Errorf("the certificate begins %s, which is in the future", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return checkLeaf(leaf, name)
}

// checkLeaf says why a client that asks for name would refuse the certificate at all times.
func checkLeaf(leaf *x509.Certificate, name string) error {
	if !isFor(leaf, name) {
		return fmt.Errorf("the certificate is for %q and not for %s", leaf.DNSNames[:min(len(leaf.DNSNames), 5)], name)
	}
	isServers := func(usage x509.ExtKeyUsage) bool {
		return usage == x509.ExtKeyUsageServerAuth || usage == x509.ExtKeyUsageAny
	}
	if usages := len(leaf.ExtKeyUsage) + len(leaf.UnknownExtKeyUsage); usages > 0 && !slices.ContainsFunc(leaf.ExtKeyUsage, isServers) {
		return errors.New("the certificate is not for servers")
	}
	return nil
}

func isFor(leaf *x509.Certificate, name string) bool {
	return slices.ContainsFunc(leaf.DNSNames, func(is string) bool { return strings.EqualFold(is, name) })
}

// leafOf reads the first certificate of a chain that is not too long. The others only have to be ones for clients.
func leafOf(chainPEM []byte) (*x509.Certificate, error) {
	var leaf *x509.Certificate
	octets, count := 0, 0
	for rest := chainPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds %q where only certificates should be", block.Type)
		}
		octets += len(block.Bytes)
		if count++; count > maxChain || octets > maxChainOctets {
			return nil, fmt.Errorf("the chain has more than %d certificates or %d KiB", maxChain, maxChainOctets>>10)
		}
		if leaf == nil {
			var err error
			if leaf, err = x509.ParseCertificate(block.Bytes); err != nil {
				return nil, err
			}
		}
	}
	if leaf == nil {
		return nil, errors.New("it holds no certificate")
	}
	return leaf, nil
}

// isGood reports whether a client takes the certificate at this time.
func isGood(leaf *x509.Certificate, now time.Time) bool {
	return now.Before(leaf.NotAfter) && !leaf.NotBefore.After(now.Add(clockError))
}
