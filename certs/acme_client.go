package certs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/caddyserver/certmagic"
)

// What a CA's answers may be. Those of a sound CA are a few kilobytes, a chain of certificates the longest. acmez reads
// each into memory as it comes, and a CA, or who answers in its place, is nobody to trust with that.
const (
	maxAnswer       = 256 << 10 // octets of one
	maxAnswers      = 8 << 20   // octets of all that one attempt hears
	maxAnswerHeader = 64 << 10
	maxObjects      = 1000 // of JSON in one: decoded, an empty one takes a hundred times its two octets

	maxPoll = 30 * time.Second // between two looks at an order
	maxWait = 24 * time.Hour   // until a CA is asked again that wants to be left alone
)

// bound puts these limits into the client by which issuer asks its CA. certmagic makes that client itself, shows it to
// nobody and takes no other; so this reads the pointer out of a field that is not exported. The client's own fields
// are. It fails, and nothing is asked of any CA, if a later certmagic has no such field.
func bound(issuer *certmagic.ACMEIssuer) error {
	field := reflect.ValueOf(issuer).Elem().FieldByName("httpClient")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*http.Client]() || field.IsNil() {
		return errors.New("certmagic has changed: its client for ACME is not found, and its answers cannot be bounded")
	}
	client := (*http.Client)(field.UnsafePointer())
	transport, ok := client.Transport.(*http.Transport)
	if !ok {
		return errors.New("certmagic has changed: its client for ACME cannot be bounded")
	}
	client.Transport = BoundAnswers(transport)
	return nil
}

// BoundAnswers returns a transport for a client of ACME, which hands on no answer of more than 256 KiB, unpacks none, and
// shortens what a Retry-After asks for. It changes and keeps transport.
func BoundAnswers(transport *http.Transport) http.RoundTripper {
	transport.DisableCompression = true // a megabyte of zeros fits into one of a kilobyte
	transport.MaxResponseHeaderBytes = maxAnswerHeader
	return boundTransport{transport}
}

type boundTransport struct{ *http.Transport }

// hearing is what one attempt has heard from a CA. The requests of an attempt come one after the other.
type hearing struct {
	octets int
	until  time.Time // the CA does not want to be asked before; zero if it did not say so
}

type hearingKey struct{}

// RoundTrip hands on an answer that it has read, or the part of it that is within the limits and then an error: acmez asks
// again after an error of RoundTrip, and the CA may have done what it was asked for.
func (t boundTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.Transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	h, ok := request.Context().Value(hearingKey{}).(*hearing)
	if !ok {
		h = &hearing{}
	}
	h.wait(request, response)
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err == nil {
		err = h.judge(body)
	}
	if err != nil {
		body = nil
	}
	response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), broken{err}))
	return response, nil
}

func (h *hearing) judge(body []byte) error {
	h.octets += len(body)
	switch {
	case len(body) > maxAnswer:
		return plainError{fmt.Errorf("an answer of the CA is longer than %d KiB", maxAnswer>>10)}
	case h.octets > maxAnswers:
		return plainError{fmt.Errorf("the answers of the CA are longer than %d MiB", maxAnswers>>20)}
	case bytes.Count(body, []byte("{")) > maxObjects:
		return plainError{fmt.Errorf("an answer of the CA has more than %d parts", maxObjects)}
	}
	return nil
}

// wait notes until when a refusing CA wants to be left alone (RFC 8555, section 6.6), and makes of any other Retry-After
// one that can be waited for: acmez waits in an order for as long as it is told, or fails on what is neither seconds nor
// a date.
func (h *hearing) wait(request *http.Request, response *http.Response) {
	pause := retryAfter(response.Header.Get("Retry-After"))
	if refusal := response.StatusCode; pause > 0 && (refusal == http.StatusTooManyRequests || refusal == http.StatusServiceUnavailable) {
		h.until = time.Now().Add(min(pause, maxWait))
	}
	longest := maxWait // for questions about a renewal
	if request.Method == http.MethodPost {
		longest = maxPoll
	}
	if pause > 0 {
		response.Header.Set("Retry-After", strconv.Itoa(max(1, int(min(pause, longest)/time.Second))))
	} else {
		response.Header.Del("Retry-After")
	}
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3); 0 is neither, or over.
func retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 63); err == nil {
		return time.Duration(min(seconds, uint64(maxWait/time.Second))) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return max(0, min(time.Until(at), maxWait))
}

// broken ends an answer.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) {
	if b.err == nil {
		return 0, io.EOF
	}
	return 0, b.err
}

// hear lets the answers to what is asked under the context be counted together.
func hear(ctx context.Context) (context.Context, *hearing) {
	h := &hearing{}
	return context.WithValue(ctx, hearingKey{}, h), h
}
