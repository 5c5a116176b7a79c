package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	webhookTime  = 10 * time.Second // of one try, all of it
	webhookTries = 5                // after the first
	maxAnswer    = 16 << 10         // octets read of an answer
)

// SignatureHeader is the field that proves who posts: "t=UNIX,v1=HEX", where
// HEX is the HMAC-SHA-256 of UNIX, a full stop and the body.
const SignatureHeader = "Smtpwall-Signature"

// webhook posts.
type webhook struct {
	url    string
	secret []byte
	client *http.Client
}

func newWebhook(target Target) *webhook {
	transport := &http.Transport{
		TLSClientConfig:        &tls.Config{RootCAs: target.Roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives:      true, // alerts are rare
		MaxResponseHeaderBytes: maxAnswer,
	}
	return &webhook{url: target.URL, secret: target.Secret, client: &http.Client{
		Transport:     transport,
		Timeout:       webhookTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (w *webhook) retries() int { return webhookTries }

// send posts once. Answers 2xx are success; 408, 425, 429 and 5xx may be
// different next time, as may what the network does.
func (w *webhook) send(ctx context.Context, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return finalError{errors.New("the URL cannot be used")}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "smtpwall")
	request.Header.Set(SignatureHeader, Signature(w.secret, time.Now(), body))
	response, err := w.client.Do(request)
	if err != nil {
		return fmt.Errorf("posting: %w", withoutURL(err))
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer) // what it says does not matter, only that it could be said
	return answerError(response.StatusCode)
}

func answerError(status int) error {
	err := fmt.Errorf("the webhook answered %d", status)
	switch {
	case status/100 == 2:
		return nil
	case status/100 == 5, status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return err
	}
	return finalError{err}
}

// withoutURL leaves out the URL that package http puts into its errors: its
// path is often a secret.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// Signature is the value of the SignatureHeader for a body posted at a time.
func Signature(secret []byte, at time.Time, body []byte) string {
	unix := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(unix + "."))
	mac.Write(body)
	return "t=" + unix + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
