package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"unicode"

	"github.com/mholt/acmez/v3/acme"
)

// maxWords bounds what a CA can make us say.
const maxWords = 600

// words are what an error of certmagic's says to people: the CA's own where it spoke.
func words(name string, err error) string {
	var problem acme.Problem
	var door doorError
	var ours plainError
	switch {
	case errors.As(err, &door):
		return clean(doorWords(door.error))
	case errors.As(err, &ours):
		return clean(ours.Error())
	case errors.As(err, &problem):
		return clean(problemWords(problem))
	}
	// certmagic and acmez say what they were doing in several layers, each with the name.
	text := err.Error()
	for before := ""; before != text; {
		before = text
		for _, layer := range []string{name + ": ", "[" + name + "] ", "obtaining certificate: ", "renewing certificate: ", "Obtain: ", "Renew: ",
			"solving challenges: ", "presenting for challenge: "} {
			text = strings.TrimPrefix(text, layer)
		}
	}
	return clean(addresses.ReplaceAllString(text, ""))
}

// addresses are what certmagic and acmez put behind their errors.
var addresses = regexp.MustCompile(`( \((order|ca)=[^ ()]*\))+$`)

// plainError is one of ours, whose words need nothing of what certmagic and acmez say around them.
type plainError struct{ error }

func (e plainError) Unwrap() error { return e.error }

func doorWords(err error) string {
	return "the CA is not asked, because no challenge could be answered: " + err.Error()
}

// problemWords are the CA's, with its name for the kind of problem (RFC 8555, section 6.7).
func problemWords(p acme.Problem) string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, sub := range p.Subproblems {
		text += fmt.Sprintf("; %s: %s", sub.Identifier.Value, sub.Detail)
	}
	if text == "" {
		return fmt.Sprintf("the CA refused (%s)", problemKind(p))
	}
	return fmt.Sprintf("the CA says: %s (%s)", strings.TrimRight(text, ". "), problemKind(p))
}

func problemKind(p acme.Problem) string {
	if kind, ok := strings.CutPrefix(p.Type, "urn:ietf:params:acme:error:"); ok {
		return kind
	}
	if p.Type == "" {
		return fmt.Sprintf("HTTP %d", p.Status)
	}
	return p.Type
}

// clean makes one line of a stranger's text.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // what turns or breaks a line is not all control characters
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords], "") + " …"
	}
	return text
}

// remedy is what to do about an error; "" where its words say it.
func (s *acmeSource) remedy(name string, err error) string {
	var problem acme.Problem
	var door doorError
	var network *net.OpError
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &door):
		return s.doorRemedy(err)
	case errors.As(err, &problem):
		return s.problemRemedy(name, problemKind(problem))
	case errors.As(err, &unknown), errors.As(err, &verification):
		return "If this CA's own server has a certificate of a private CA, name its root with ca."
	case err != nil && strings.Contains(err.Error(), "unknown profile"): // acmez looks before it asks
		return "Correct profile."
	case errors.As(err, &network), errors.As(err, &dns), errors.Is(err, context.DeadlineExceeded):
		return "Look whether the CA is reached from this host."
	}
	return ""
}

// doorRemedy: under systemd the proxy may bind no port and write nowhere, unless its units say so.
func (s *acmeSource) doorRemedy(err error) string {
	port := s.options.HTTPPort
	if s.options.Challenge == ChallengeTLSALPN {
		port = s.options.TLSALPNPort
	}
	switch {
	case s.options.WebRoot != "" && errors.Is(err, syscall.EROFS):
		return fmt.Sprintf("Let the service write there: ReadWritePaths=%s in a drop-in of smtpwall.service.", filepath.Join(s.options.WebRoot, challengePath))
	case s.options.WebRoot != "":
		return "Let the proxy's user write below web_root, or correct web_root."
	case port == 0:
		return "Set http_port or web_root, or choose another challenge."
	}
	remedy, other := "Free port %d, or %s.", "choose another challenge"
	if s.options.Challenge == ChallengeHTTP {
		remedy, other = "Free port %d, %s.", "set web_root if a web server has it, or choose another challenge"
	}
	if errors.Is(err, fs.ErrPermission) {
		remedy = "Have systemd open it: systemctl enable smtpwall-acme@%[1]d.socket, then systemctl restart smtpwall.service; where another program has port %[1]d, %[2]s."
	}
	return fmt.Sprintf(remedy, port, other)
}

func (s *acmeSource) problemRemedy(name, kind string) string {
	switch kind {
	case "rateLimited":
		return "The CA's limit opens by itself; until then another issuer can be set as a fallback."
	case "unauthorized", "connection", "dns", "tls", "incorrectResponse":
		return s.challengeRemedy(name)
	case "caa":
		return "Allow this CA in the CAA records of " + name + ", or ask another."
	case "rejectedIdentifier", "unsupportedIdentifier":
		return "This CA does not certify the name: correct names, or ask another CA."
	case "externalAccountRequired":
		return "Set eab_key_id and eab_key as the CA gave them to you."
	case "invalidContact", "unsupportedContact":
		return "Correct email."
	case "invalidProfile":
		return "Correct profile."
	}
	return ""
}

func (s *acmeSource) challengeRemedy(name string) string {
	name = strings.TrimPrefix(name, "*.")
	switch s.options.Challenge {
	case ChallengeDNS:
		return fmt.Sprintf("Look whether the name servers of %s show the records at _acme-challenge.%s to everybody.", name, name)
	case ChallengeTLSALPN:
		return fmt.Sprintf("The CA must reach this proxy at port 443 of each address that %s has.", name)
	}
	if s.options.WebRoot != "" {
		return fmt.Sprintf("The web server must show %s below http://%s/ at each address that the name has.", s.options.WebRoot, name)
	}
	return fmt.Sprintf("The CA must reach this proxy at port 80 of each address that %s has.", name)
}
