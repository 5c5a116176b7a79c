package app

import (
	"fmt"
	"time"

	"github.com/smtpwall/smtpwall/certs"
	"github.com/smtpwall/smtpwall/internal/admin"
)

// When something is worth a word.
const (
	oldMessage  = 4 * time.Hour
	nearlyFull  = 0.9
	nearlyEnded = 3 * 24 * time.Hour // of a certificate, or the last tenth of a short one: it was renewed before
)

// conditions are what degrades the proxy, by the part that has it. The first
// word of a part is the event that an alert about it is.
func (b *backend) conditions() map[string]string {
	s, err := b.Status(b.proxy.background)
	if err != nil {
		return nil
	}
	return s.Conditions
}

// addConditions says what of all that somebody should look at.
func (b *backend) addConditions(s *admin.Status, now time.Time) {
	p := b.proxy
	for _, r := range s.Relays {
		if r.Breaker != "closed" {
			s.Conditions["relay "+r.Name] = r.Error
		}
	}
	if text := spoolCondition(&s.Spool, now); text != "" {
		s.Conditions["spool"] = text
	}
	if text := p.limits.Condition(); text != "" {
		s.Conditions["limits"] = text
	}
	if text := p.alarms.alerter.Condition(); text != "" {
		s.Conditions["alert"] = text
	}
	for _, f := range p.inForce.Load().Filters {
		if text := f.Condition(); text != "" {
			s.Conditions["filter "+f.Name()] = text
		}
	}
	for part, text := range p.certificates.Conditions() {
		s.Conditions[part] = text
	}
	for _, c := range p.certificates.Status() {
		if part := "certificate " + c.Name; s.Conditions[part] == "" && endsSoon(c, now) {
			s.Conditions[part] = "ends " + c.NotAfter.UTC().Format(time.RFC3339)
		}
	}
}

// endsSoon is false of a certificate that is wanted and not there yet.
func endsSoon(c certs.Certificate, now time.Time) bool {
	return !c.NotAfter.IsZero() && c.NotAfter.Sub(now) < min(nearlyEnded, c.NotAfter.Sub(c.NotBefore)/10)
}

func spoolCondition(s *admin.SpoolStatus, now time.Time) string {
	switch {
	case float64(s.Bytes) > nearlyFull*float64(s.MaxBytes):
		return fmt.Sprintf("%d of %d bytes are used: new messages will be refused with 452", s.Bytes, s.MaxBytes)
	case s.Corrupt > 0:
		return fmt.Sprintf("%d damaged messages are in corrupt/", s.Corrupt)
	case !s.Oldest.IsZero() && now.Sub(s.Oldest) > oldMessage:
		return "the oldest message waits since " + s.Oldest.Format(time.RFC3339)
	}
	return ""
}
