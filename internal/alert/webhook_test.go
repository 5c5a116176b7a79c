package alert

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

var secret = []byte("a key of the webhook")

// hook is a webhook that does what it is told; roots trust it.
func hook(t *testing.T, handle http.HandlerFunc) (url string, roots *x509.CertPool) {
	t.Helper()
	server := httptest.NewUnstartedServer(handle)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots = x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.URL, roots
}

// verify checks a signature as docs/alerts.md tells receivers to.
func verify(header string, body, key []byte, now time.Time) error {
	stamp, code, found := strings.Cut(strings.TrimPrefix(header, "t="), ",v1=")
	unix, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || !found {
		return fmt.Errorf("signature %q", header)
	}
	if age := now.Sub(time.Unix(unix, 0)).Abs(); age > 5*time.Minute {
		return fmt.Errorf("signed %v ago", age)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s", stamp, body)
	if !hmac.Equal([]byte(code), []byte(hex.EncodeToString(mac.Sum(nil)))) {
		return errors.New("not signed by this key")
	}
	return nil
}

func TestWebhook(t *testing.T) {
	var signed error
	var request *http.Request
	var body []byte
	url, roots := hook(t, func(w http.ResponseWriter, r *http.Request) {
		request = r
		body, _ = io.ReadAll(r.Body)
		signed = verify(r.Header.Get("Smtpwall-Signature"), body, secret, time.Now())
		w.WriteHeader(http.StatusNoContent)
	})
	w := newWebhook(Target{URL: url + "/path?q", Secret: secret, Roots: roots})
	if err := w.send(t.Context(), []byte(`{"kind":"drift"}`)); err != nil {
		t.Fatal(err)
	}
	if signed != nil {
		t.Error(signed)
	}
	if request.Method != "POST" || request.URL.String() != "/path?q" || request.Header.Get("Content-Type") != "application/json" || string(body) != `{"kind":"drift"}` {
		t.Errorf("%s %s %v %q", request.Method, request.URL, request.Header, body)
	}
}

// A known value, so that the signature cannot change unseen: made with
// printf '1795316400.{"a":1}' | openssl dgst -sha256 -hmac "a key of the webhook"
func TestSignature(t *testing.T) {
	got := Signature(secret, time.Unix(1795316400, 999), []byte(`{"a":1}`))
	if want := "t=1795316400,v1=77713886271258aa6fb36162973791dd462683cc9deaaf742ed5dd379f6b0281"; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
	if verify(got, []byte(`{"a":2}`), secret, time.Unix(1795316400, 0)) == nil {
		t.Error("another body is taken for signed")
	}
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		status       int
		wrong, final bool
	}{
		{200, false, false}, {202, false, false}, {204, false, false},
		{301, true, true}, {302, true, true}, {307, true, true}, {400, true, true}, {401, true, true}, {404, true, true}, {410, true, true},
		{408, true, false}, {425, true, false}, {429, true, false}, {500, true, false}, {503, true, false},
	}
	visits := 0
	for _, test := range tests {
		t.Run(fmt.Sprint(test.status), func(t *testing.T) {
			url, roots := hook(t, func(w http.ResponseWriter, _ *http.Request) {
				visits++
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(test.status)
			})
			visits = 0
			err := newWebhook(Target{URL: url, Roots: roots}).send(t.Context(), nil)
			_, final := errors.AsType[finalError](err)
			if (err != nil) != test.wrong || final != test.final {
				t.Errorf("error %v, final %v", err, final)
			}
			if visits != 1 {
				t.Errorf("%d requests, want one: no redirect is followed", visits)
			}
		})
	}
}

func TestWebhookThatIsNotTrusted(t *testing.T) {
	url, _ := hook(t, func(http.ResponseWriter, *http.Request) { t.Error("it was told") })
	err := newWebhook(Target{URL: url + "/secret", Roots: x509.NewCertPool()}).send(t.Context(), nil)
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); !unknown {
		t.Errorf("error %v", err)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the path: %v", err)
	}
}

func TestWebhookThatIsAway(t *testing.T) {
	url, roots := hook(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	err := newWebhook(Target{URL: url + "/secret", Roots: roots}).send(t.Context(), nil)
	if _, final := errors.AsType[finalError](err); err == nil || final || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v, want one worth another try, without the path", err)
	}
}

// An answer without end is not read to its end.
func TestWebhookThatTalks(t *testing.T) {
	url, roots := hook(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	if err := newWebhook(Target{URL: url, Roots: roots}).send(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestWebhookThatHangs(t *testing.T) {
	ended := make(chan struct{})
	url, roots := hook(t, func(_ http.ResponseWriter, r *http.Request) {
		<-ended
	})
	defer close(ended)
	w := newWebhook(Target{URL: url, Roots: roots})
	if w.client.Timeout != 10*time.Second {
		t.Errorf("limit %v", w.client.Timeout)
	}
	w.client.Timeout = 100 * time.Millisecond
	if err := w.send(t.Context(), nil); err == nil {
		t.Error("no error")
	}
}

func TestURLThatIsNone(t *testing.T) {
	err := newWebhook(Target{URL: "https://a b/secret"}).send(t.Context(), nil)
	if _, final := errors.AsType[finalError](err); !final || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}
