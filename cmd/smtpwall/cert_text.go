package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
)

// Sources of certificates that are the local CA's: those that it signed, and its
// own.
const (
	sourceLocal = "local"
	sourceRoot  = "local-ca"
)

// ailing reports whether somebody should look at a certificate.
func ailing(c admin.Certificate, now time.Time) bool {
	return c.Error != "" || c.NotAfter.IsZero() || !now.Before(c.NotAfter)
}

// printCertificates is one block for each certificate, and what is wrong in the
// end.
func (c *console) printCertificates(s certificateState, now time.Time) {
	for i := range s.Certificates {
		if i > 0 {
			fmt.Fprintln(c.out)
		}
		for _, line := range certificateLines(&s.Certificates[i], s.Running, now) {
			fmt.Fprintln(c.out, line)
		}
	}
	if len(s.Conditions) > 0 {
		fmt.Fprintln(c.out)
	}
	for _, line := range sortedConditions(s.Conditions) {
		fmt.Fprintln(c.out, line)
	}
}

// certificateLines is the block of one certificate.
func certificateLines(cert *admin.Certificate, running bool, now time.Time) []string {
	lines := []string{visible(cert.Name)}
	add := func(label, text string) {
		lines = append(lines, fmt.Sprintf("  %-12s %s", label, text))
	}
	add("source", sourceText(cert.Source))
	if len(cert.Names) > 1 || len(cert.Names) == 1 && cert.Names[0] != cert.Name {
		add("names", visible(strings.Join(cert.Names, ", ")))
	}
	if cert.NotAfter.IsZero() {
		add("valid", "there is none yet: the local CA's is shown")
	} else {
		add("issuer", visible(cert.Issuer))
		add("valid", validText(cert, now))
		add("serial", visible(cert.Serial))
		add("fingerprint", "sha256:"+visible(cert.Fingerprint))
	}
	if !cert.RenewAfter.IsZero() {
		add("renewal", renewalText(cert.RenewAfter, now))
	}
	if running && cert.Source != sourceRoot && !cert.NotAfter.IsZero() {
		add("shown", map[bool]string{true: "to clients that ask for its names", false: "to nobody"}[cert.Serving])
	}
	if cert.Error != "" {
		add("failed", failureText(cert, now))
		add("next try", nextTryText(cert, now))
	}
	return lines
}

// sourceText says who has a certificate made.
func sourceText(source string) string {
	switch source {
	case sourceLocal:
		return "local CA"
	case "files":
		return "files that somebody else renews"
	case "acme":
		return "ACME"
	case sourceRoot:
		return "root of the local CA, which smtpwall trust install makes programs trust"
	}
	return visible(source)
}

// validText is when a certificate is valid, and how much of that is left.
func validText(cert *admin.Certificate, now time.Time) string {
	span := fmt.Sprintf("from %s to %s", timeText(cert.NotBefore), timeText(cert.NotAfter))
	switch {
	case now.Before(cert.NotBefore):
		return span + ": not yet"
	case !now.Before(cert.NotAfter):
		return span + ": expired " + spanText(now.Sub(cert.NotAfter)) + " ago"
	}
	return span + ": " + leftText(cert.NotAfter.Sub(now))
}

// leftText is how long something lasts. People plan by days.
func leftText(left time.Duration) string { return spanText(left) + " left" }

func renewalText(after, now time.Time) string {
	if !now.Before(after) {
		return "due since " + timeText(after)
	}
	return fmt.Sprintf("after %s, in %s", timeText(after), spanText(after.Sub(now)))
}

func failureText(cert *admin.Certificate, now time.Time) string {
	if cert.ErrorAt.IsZero() {
		return visible(cert.Error)
	}
	return fmt.Sprintf("%s ago: %s", spanText(now.Sub(cert.ErrorAt)), visible(cert.Error))
}

func nextTryText(cert *admin.Certificate, now time.Time) string {
	switch wait := cert.NextTry.Sub(now); {
	case cert.NextTry.IsZero() && cert.Source == "files":
		return "when the files change"
	case cert.NextTry.IsZero():
		return "not known; smtpwall cert renew asks at once"
	case wait <= 0:
		return "now"
	default:
		return "in " + spanText(wait)
	}
}

// certificatesLine is all of them in one line of status; "" for none. What the
// local CA has beside certificates from elsewhere, and its root, which lasts ten
// years, are left out unless they ail.
func certificatesLine(all []admin.Certificate, now time.Time) string {
	const most = 4
	elsewhere := slices.ContainsFunc(all, func(c admin.Certificate) bool { return c.Source != sourceRoot && c.Source != sourceLocal })
	var parts []string
	for i := range all {
		own := all[i].Source == sourceRoot || all[i].Source == sourceLocal && elsewhere
		if !own || ailing(all[i], now) {
			parts = append(parts, certificatePart(&all[i], now))
		}
	}
	if more := len(parts) - most; more > 0 {
		parts = append(slices.Clip(parts[:most]), fmt.Sprintf("%d more, which smtpwall cert status shows", more))
	}
	return strings.Join(parts, "; ")
}

func certificatePart(cert *admin.Certificate, now time.Time) string {
	text := visible(cert.Name)
	switch {
	case cert.NotAfter.IsZero():
		text += ": none yet"
	case !now.Before(cert.NotAfter):
		text += " by " + visible(cert.Issuer) + ": expired"
	default:
		text += " by " + visible(cert.Issuer) + ", " + leftText(cert.NotAfter.Sub(now))
	}
	if cert.Error != "" {
		text += ", the last try failed"
	}
	return text
}
