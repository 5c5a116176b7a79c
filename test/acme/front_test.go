package acme_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// front stands before the CA and does what Pebble cannot be told to do.
type front struct {
	directory string // the URL that clients start from

	withoutARI bool          // the directory does not offer ARI
	askAgain   time.Duration // instead of Pebble's six hours between questions about a renewal, with noHurry

	mu         sync.Mutex
	limited    bool // orders are answered with 429
	retryAfter time.Duration
	refused    int  // orders that were
	noHurry    bool // renewals are suggested in an hour
	away       bool // connections are closed without a word
}

// rateLimitWords are Let's Encrypt's, up to the time.
const rateLimitWords = "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after "

// startFront puts a front before the bed's CA; see config.
func (b *bed) startFront(t testing.TB, f *front) {
	t.Helper()
	listener, err := b.Remote.Listen(netip.AddrPortFrom(secondAddr, 443))
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(b.ca.Directory())
	if err != nil {
		t.Fatal(err)
	}
	target.Path = ""
	proxy := &httputil.ReverseProxy{
		Transport: b.ca.Client().Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // which the CA makes its URLs of, and requests are signed for
		},
		ModifyResponse: f.modify,
	}
	server := &http.Server{
		TLSConfig: b.authority.server(t, secondAddr.String()),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if f.takes(w, r) {
				proxy.ServeHTTP(w, r)
			}
		}),
		Protocols: new(http.Protocols),
	}
	server.Protocols.SetHTTP1(true) // of which a connection can be closed
	done := make(chan struct{})
	go func() { // ends with the server, below
		defer close(done)
		_ = server.ServeTLS(listener, "", "")
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
	f.directory = "https://" + secondAddr.String() + "/dir"
}

// config is acmeConfig with the front for the CA.
func (f *front) config() string {
	return "source = \"acme\"\nemail = \"admin@example.net\"\ndirectory = \"" + f.directory + "\"\nca = \"$DIR/relay-ca.pem\"\n"
}

// takes answers what the CA is not to see, and says whether it may see the rest.
func (f *front) takes(w http.ResponseWriter, r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.away:
		panic(http.ErrAbortHandler)
	case f.limited && path.Base(r.URL.Path) == "order-plz":
		f.refused++
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", inSeconds(f.retryAfter))
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":%q,"status":429}`,
			rateLimitWords+time.Now().Add(f.retryAfter).UTC().Format(time.DateTime)+" UTC: see https://letsencrypt.org/docs/rate-limits/")
		return false
	case f.noHurry && strings.Contains(r.URL.Path, renewalPath):
		start := time.Now().Add(time.Hour).UTC()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", inSeconds(f.askAgain))
		_ = json.NewEncoder(w).Encode(map[string]any{"suggestedWindow": map[string]time.Time{"start": start, "end": start.Add(time.Hour)}})
		return false
	}
	return true
}

// renewalPath is in the URLs of Pebble's ARI.
const renewalPath = "/renewalInfo/"

func inSeconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

func (f *front) modify(response *http.Response) error {
	if f.askAgain > 0 && strings.Contains(response.Request.URL.Path, renewalPath) {
		response.Header.Set("Retry-After", inSeconds(f.askAgain))
	}
	if !f.withoutARI || response.Request.URL.Path != "/dir" {
		return nil
	}
	var directory map[string]any
	if err := json.NewDecoder(response.Body).Decode(&directory); err != nil {
		return err
	}
	delete(directory, "renewalInfo")
	text, err := json.Marshal(directory)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(text))
	response.ContentLength = int64(len(text))
	response.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return nil
}

// limit begins to answer orders with 429, or ends that.
func (f *front) limit(limited bool, retryAfter time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limited, f.retryAfter = limited, retryAfter
}

// refusals is how many orders had a 429.
func (f *front) refusals() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused
}

// hurry lets the CA itself say when to renew.
func (f *front) hurry() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noHurry = false
}

// leave lets the CA go away, or come back as it was.
func (f *front) leave(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}
