package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Certifier keeps the certificates of the listeners. Many goroutines call it.
// Client has this shape too.
type Certifier interface {
	// Certificates are those that the host has or wants, the root of the local CA
	// among them.
	Certificates(ctx context.Context) ([]Certificate, error)
	// RenewCertificates asks for new certificates for the names, each the Name of
	// a Certificate, or for all that can be renewed without any. It returns when
	// each is there or has failed, which may take minutes, with the CA's own words. When ctx ends it
	// returns with that error, and the renewal goes on.
	RenewCertificates(ctx context.Context, names []string) error
}

// Certificate is one that the host has, or wants and has not got yet: then there
// are no times of it, and Error says why if it is known.
type Certificate struct {
	Name        string    `json:"name"`                  // by which it is renewed
	Names       []string  `json:"names"`                 // DNS names, then IP addresses
	Source      string    `json:"source"`                // "local", "files", "acme", or "local-ca" for the local CA's root
	Issuer      string    `json:"issuer,omitempty"`      // common name of who signed it
	Serial      string    `json:"serial,omitempty"`      // hexadecimal
	Fingerprint string    `json:"fingerprint,omitempty"` // SHA-256 of the DER form, hexadecimal
	NotBefore   time.Time `json:"not_before,omitzero"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	RenewAfter  time.Time `json:"renew_after,omitzero"` // zero: not renewed by us
	Serving     bool      `json:"serving"`              // shown to clients that ask for its names
	Error       string    `json:"error,omitempty"`      // why the last try to get or to read a new one failed
	ErrorAt     time.Time `json:"error_at,omitzero"`
	NextTry     time.Time `json:"next_try,omitzero"`
}

// renewal is the body of an order to renew; no names are all.
type renewal struct {
	Names []string `json:"names"`
}

func (h *handler) certificates(w http.ResponseWriter, r *http.Request) {
	all, err := h.certifier.Certificates(r.Context())
	if all == nil {
		all = []Certificate{}
	}
	answerOr(w, all, err)
}

// renew sends the head of its answer at once, so that the client knows that
// somebody is at work, and a line with the error if there is one in the end.
func (h *handler) renew(w http.ResponseWriter, r *http.Request) {
	var order renewal
	if err := readBody(w, r, maxRenewal, &order); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("renewing: %w", err))
		return
	}
	s := newStream(w)
	defer s.end()
	if err := h.certifier.RenewCertificates(r.Context(), order.Names); err != nil {
		_ = s.write(line{Error: errorText(err)})
	}
}

// Certificates are those that the host has or wants.
func (c *Client) Certificates(ctx context.Context) ([]Certificate, error) {
	var all []Certificate
	err := c.get(ctx, pathCertificates, &all)
	return all, err
}

// RenewCertificates asks for new certificates for the names, or for all without
// any, and waits for them. When ctx ends the renewal goes on.
func (c *Client) RenewCertificates(ctx context.Context, names []string) error {
	body, err := json.Marshal(renewal{names})
	if err != nil {
		return fmt.Errorf("asking the proxy: %w", err)
	}
	return c.stream(ctx, pathRenew, body, func(line) error { return nil })
}
