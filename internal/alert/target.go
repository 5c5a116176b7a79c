package alert

import (
	"context"
	"crypto/x509"
	"net/url"
	"slices"
	"strings"
)

// Target is whom to tell: a program or a webhook, not both.
type Target struct {
	Exec   []string       // absolute path and arguments
	URL    string         // https; http only to loopback
	Secret []byte         // key of the webhook's signature
	Roots  *x509.CertPool // of the webhook's certificate; nil: the system's
	Events []string       // kinds to tell of; none: all
}

// sender delivers the JSON of one alert. An error that is final is not helped
// by trying again.
type sender interface {
	send(ctx context.Context, body []byte) error
	// retries is how many times it is tried again.
	retries() int
}

// finalError is one that another try would meet again.
type finalError struct{ error }

// wants says that the target is to be told of a kind.
func (t Target) wants(kind string) bool {
	return len(t.Events) == 0 || kind == Storm || slices.Contains(t.Events, kind)
}

// id is what makes two targets the same one across Apply: its secret and its
// roots may change.
func (t Target) id() string {
	return strings.Join(t.Exec, "\x00") + "\x01" + t.URL + "\x01" + strings.Join(t.Events, "\x00")
}

// name is how logs and conditions call it. Paths and queries of webhooks are
// often secrets.
func (t Target) name() string {
	if len(t.Exec) > 0 {
		return "exec " + t.Exec[0]
	}
	if parsed, err := url.Parse(t.URL); err == nil && parsed.Host != "" {
		return "webhook " + parsed.Scheme + "://" + parsed.Host
	}
	return "webhook"
}
