package admin

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// cabinet keeps certificates, and is told which to renew.
type cabinet struct {
	all     []Certificate
	ordered chan []string
	failure error
	pause   time.Duration // of a renewal
	ended   chan struct{} // closed when a renewal is told that nobody waits
}

func (c *cabinet) Certificates(context.Context) ([]Certificate, error) { return c.all, c.failure }

func (c *cabinet) RenewCertificates(ctx context.Context, names []string) error {
	c.ordered <- names
	select {
	case <-time.After(c.pause):
		return c.failure
	case <-ctx.Done():
		close(c.ended)
		return ctx.Err()
	}
}

func newCabinet() *cabinet {
	at := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	return &cabinet{ordered: make(chan []string, 1), ended: make(chan struct{}), all: []Certificate{
		{Name: "vps1.example.net", Names: []string{"vps1.example.net"}, Source: "acme", Issuer: "R13", Serial: "4ab", Fingerprint: "00ff",
			NotBefore: at, NotAfter: at.Add(90 * 24 * time.Hour), RenewAfter: at.Add(60 * 24 * time.Hour), Serving: true},
		{Name: "mail.example.net", Names: []string{"mail.example.net"}, Source: "acme", Error: "too many\nrequests", ErrorAt: at, NextTry: at.Add(time.Hour)},
	}}
}

// cabinetClient asks a cabinet by a real socket.
func cabinetClient(t *testing.T, c *cabinet) *Client {
	t.Helper()
	path := socketPath(t)
	ln, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	serveOptions(t, Options{Reader: &shelf{}, Limits: &shelf{}, Actor: &shelf{}, Certifier: c}, ln)
	return NewClient(path)
}

func TestCertificates(t *testing.T) {
	c := newCabinet()
	client := cabinetClient(t, c)
	if got, err := client.Certificates(t.Context()); err != nil || !reflect.DeepEqual(got, c.all) {
		t.Errorf("%v\n%+v, want\n%+v", err, got, c.all)
	}
	c.all = nil
	if got, err := client.Certificates(t.Context()); err != nil || got == nil || len(got) != 0 {
		t.Errorf("none: %v, %v", got, err)
	}
	c.failure = errors.New("damaged")
	if _, err := client.Certificates(t.Context()); err == nil || err.Error() != "the proxy: damaged" {
		t.Errorf("a failure: %v", err)
	}
}

func TestRenewCertificates(t *testing.T) {
	c := newCabinet()
	client := cabinetClient(t, c)
	for _, names := range [][]string{nil, {"vps1.example.net", "*.example.net"}} {
		if err := client.RenewCertificates(t.Context(), names); err != nil {
			t.Fatal(err)
		}
		if got := <-c.ordered; !reflect.DeepEqual(got, names) {
			t.Errorf("ordered %v, want %v", got, names)
		}
	}
	c.failure = errors.New(`the CA said "too many certificates"`)
	if err := client.RenewCertificates(t.Context(), nil); err == nil || err.Error() != `the proxy: the CA said "too many certificates"` {
		t.Errorf("a failure: %v", err)
	}
}

// Who goes away has the backend told, which goes on by itself.
func TestRenewalThatNobodyWaitsFor(t *testing.T) {
	c := newCabinet()
	c.pause = time.Hour
	client := cabinetClient(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { failed <- client.RenewCertificates(ctx, nil) }() // read below
	<-c.ordered
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the client's error is %v", err)
	}
	<-c.ended
}

// An order takes as long as it takes: requestTime is for the request alone.
func TestLongRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCabinet()
		c.pause = 10 * requestTime
		server := NewServer(Options{Reader: &shelf{}, Limits: &shelf{}, Actor: &shelf{}, Certifier: c})
		ln := newPipeListener()
		ended := make(chan error, 1)
		go func() { ended <- server.http.Serve(ln) }() // read below
		client := NewClient("")
		client.http.Transport.(*http.Transport).DialContext = ln.dial
		if err := client.RenewCertificates(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if err := server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

func TestRenewalsRefused(t *testing.T) {
	h := NewHandler(Options{Certifier: newCabinet()})
	for body, want := range map[string]int{
		`{"names":["a"],"force":true}`: http.StatusBadRequest, `{"names":"a"}`: http.StatusBadRequest, `{} {}`: http.StatusBadRequest,
		`{"names":["` + strings.Repeat("a", maxRenewal) + `"]}`: http.StatusBadRequest, `{}`: http.StatusOK,
	} {
		request := httptest.NewRequest(http.MethodPost, pathRenew, strings.NewReader(body))
		request.Header.Set("Content-Type", typeJSON)
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, request)
		if answer.Code != want {
			t.Errorf("%.40s: %d %s, want %d", body, answer.Code, answer.Body, want)
		}
	}
	answer := httptest.NewRecorder()
	NewHandler(Options{}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, pathCertificates, nil))
	if answer.Code != http.StatusNotFound {
		t.Errorf("without a certifier: %d", answer.Code)
	}
}
