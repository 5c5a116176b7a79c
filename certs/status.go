package certs

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// sourceAuthority is Certificate.Source of the local CA's root.
const sourceAuthority = "local-ca"

// Status lists the certificates that the host has or wants: those of the source, the local CA's, and its root.
func (m *Manager) Status() []Certificate {
	g := m.current.Load()
	var list []Certificate
	if g.source != nil {
		list = g.source.status()
	}
	if local := g.managed.certificate(); local != nil {
		c := describe(local.Leaf, string(SourceLocal))
		c.RenewAfter = g.authority.renewAfter(c.NotAfter)
		c.Serving = true // for localhost and redirected names if for nothing else
		list = append(list, c)
	}
	root := describe(g.authority.root, sourceAuthority)
	root.Name = g.authority.name()
	root.Names = []string{root.Name}
	return append(list, root)
}

func describe(leaf *x509.Certificate, source string) Certificate {
	sum := sha256.Sum256(leaf.Raw)
	c := Certificate{Names: leaf.DNSNames, Issuer: leaf.Issuer.CommonName, Source: source, Serial: leaf.SerialNumber.Text(16),
		Fingerprint: hex.EncodeToString(sum[:]), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
	for _, address := range leaf.IPAddresses {
		c.Names = append(c.Names[:len(c.Names):len(c.Names)], address.String())
	}
	if len(c.Names) > 0 {
		c.Name = c.Names[0]
	}
	return c
}

func (s *acmeSource) status() []Certificate {
	var list []Certificate
	for _, n := range s.names {
		list = append(list, n.status())
	}
	return list
}

func (n *acmeName) status() Certificate {
	c := Certificate{Names: []string{n.name}, Source: string(SourceACME)}
	if newest := n.newest(); newest != nil {
		c = describe(newest.Leaf, string(SourceACME))
		c.RenewAfter = n.renewAfter(newest.Leaf)
		c.Serving = isGood(newest.Leaf, time.Now())
	}
	c.Name = n.name
	a := n.attempts()
	c.ErrorAt, c.NextTry = a.at, a.next
	if a.err != nil {
		c.LastError = a.err.Error()
	}
	return c
}

// renewAfter is what the CA suggests (RFC 9773), which certmagic keeps beside the certificate, else our own window.
func (n *acmeName) renewAfter(leaf *x509.Certificate) time.Time {
	for _, issuer := range n.config.Issuers {
		content, err := n.source.storage.Load(context.Background(), certmagic.StorageKeys.SiteMeta(issuer.IssuerKey(), n.name))
		var resource certmagic.CertificateResource
		var issued acme.Certificate
		if err != nil || json.Unmarshal(content, &resource) != nil || json.Unmarshal(resource.IssuerData, &issued) != nil {
			continue
		}
		info := issued.RenewalInfo
		id, err := acme.ARIUniqueIdentifier(leaf)
		if err == nil && info != nil && info.UniqueIdentifier == id && !info.SelectedTime.IsZero() {
			return info.SelectedTime
		}
	}
	return leaf.NotAfter.Add(-time.Duration(renewalWindow * float64(leaf.NotAfter.Sub(leaf.NotBefore))))
}

func (f *files) status() []Certificate {
	c := Certificate{Name: f.certificateFile, Source: string(SourceFiles)}
	if p := f.current.Load(); p != nil {
		c = describe(p.certificate.Leaf, string(SourceFiles))
		c.Serving = f.good() != nil
	}
	if fault := f.fault.Load(); fault != nil {
		c.LastError, c.ErrorAt = fault.text, fault.at
	}
	return []Certificate{c}
}

// Conditions say what is wrong with the certificates, for each a sentence or two with what to do: "certificate NAME"
// with the Name of a Certificate, and "certificate constraints" where those of the local CA are not what is asked for. It is
// empty when all is well.
func (m *Manager) Conditions() map[string]string {
	g, now := m.current.Load(), time.Now()
	all := map[string]string{}
	if g.source != nil {
		all = g.source.conditions(now)
	}
	if text := g.authority.condition(g.caNames); text != "" {
		all["certificate constraints"] = text
	}
	if left := g.authority.root.NotAfter.Sub(now); left < rootNotice {
		all["certificate "+g.authority.name()] = fmt.Sprintf("the local CA ends %s. Move it away for a new one to be made, and have clients trust that.",
			g.authority.root.NotAfter.UTC().Format(time.DateOnly))
	}
	return all
}

// rootNotice is how long before its end the local CA's root is a condition.
const rootNotice = 90 * 24 * time.Hour

func (s *acmeSource) conditions(now time.Time) map[string]string {
	all := map[string]string{}
	for _, n := range s.names {
		if text := n.condition(now); text != "" {
			all["certificate "+n.name] = text
		}
	}
	return all
}

func (f *files) conditions(now time.Time) map[string]string {
	all := map[string]string{}
	p, fault := f.current.Load(), f.fault.Load()
	key := "certificate " + f.status()[0].Name
	switch {
	case p == nil && fault != nil:
		all[key] = fmt.Sprintf("cannot be loaded: %s; clients are shown the local CA's instead. It is read every %s; sudo -u smtpwall smtpwall check --offline tells what to mend.", fault.text, watchInterval)
	case p == nil:
	case !now.Before(p.certificate.Leaf.NotAfter):
		all[key] = fmt.Sprintf("ended %s; clients are shown the local CA's instead. Renew it in %s.", p.certificate.Leaf.NotAfter.UTC().Format(time.RFC3339), f.certificateFile)
	case !isGood(p.certificate.Leaf, now):
		all[key] = fmt.Sprintf("begins %s; clients are shown the local CA's until then. Look at the clocks of this host and of whoever made it.", p.certificate.Leaf.NotBefore.UTC().Format(time.RFC3339))
	case fault != nil:
		all[key] = fmt.Sprintf("cannot be replaced by the changed files: %s. The one loaded before is shown, and good until %s.", fault.text, p.certificate.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return all
}
