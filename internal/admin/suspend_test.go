package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/limit"
)

func TestSuspendAndResume(t *testing.T) {
	s := &shelf{}
	client := NewClient(open(t, s))
	none, err := client.Suspensions(t.Context())
	if err != nil || none == nil || len(none) != 0 {
		t.Errorf("%v, %v of none", none, err)
	}
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for _, key := range []string{"uid:33", "account:web shop", "container:docker/4f?key=x&", "unknown", "unit:user@33.service"} {
		want := limit.Suspension{Key: key, Reason: "spam <x> ü", By: "nobody", Since: time.Unix(1, 0), Until: until}
		if err := client.Suspend(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		all, err := client.Suspensions(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
		got := all[0]
		if got.By != "uid 0" || time.Since(got.Since) > time.Minute {
			t.Errorf("by %q since %v: it was believed who asked", got.By, got.Since)
		}
		got.By, got.Since = want.By, want.Since
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
		if err := client.Resume(t.Context(), key); err != nil {
			t.Error(err)
		}
		if err := client.Resume(t.Context(), key); !errors.Is(err, ErrNotSuspended) {
			t.Errorf("again: %v", err)
		}
	}
}

func TestSuspendRefuses(t *testing.T) {
	s := &shelf{}
	client := NewClient(open(t, s))
	for _, test := range []struct {
		suspension limit.Suspension
		want       string
	}{
		{limit.Suspension{}, "is no key"},
		{limit.Suspension{Key: "www-data"}, "is no key"},
		{limit.Suspension{Key: "unknown:x"}, "is no key"},
		{limit.Suspension{Key: "host"}, "is no key"},
		{limit.Suspension{Key: "uid:"}, "a uid is a number"},
		{limit.Suspension{Key: "uid:033"}, "a uid is a number"},
		{limit.Suspension{Key: "uid:4294967296"}, "a uid is a number"},
		{limit.Suspension{Key: "uid:-1"}, "a uid is a number"},
		{limit.Suspension{Key: "uid:4294967295"}, "nobody has that uid"},
		{limit.Suspension{Key: "account:"}, "one line"},
		{limit.Suspension{Key: "account:a\nb"}, "one line"},
		{limit.Suspension{Key: "unit:" + strings.Repeat("x", maxKey)}, "one line"},
		{limit.Suspension{Key: "uid:33", Reason: "a\r\nb"}, "the reason must be one line"},
		{limit.Suspension{Key: "uid:33", Reason: strings.Repeat("x", maxReason+1)}, "the reason must be one line"},
		{limit.Suspension{Key: "uid:33", Until: time.Now().Add(-time.Hour)}, "is over"},
	} {
		if err := client.Suspend(t.Context(), test.suspension); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.suspension, err, test.want)
		}
	}
	if err := client.Resume(t.Context(), ""); err == nil || errors.Is(err, ErrNotSuspended) {
		t.Errorf("resuming nobody: %v", err)
	}
	if len(s.off) > 0 {
		t.Errorf("%v was suspended", s.off)
	}
}

// What the proxy could not do is told, and not as something else.
func TestSuspendFails(t *testing.T) {
	client := NewClient(open(t, &shelf{failure: errors.New("disk full"), off: map[string]limit.Suspension{"uid:1": {}}}))
	_, listErr := client.Suspensions(t.Context())
	_, limitsErr := client.Limits(t.Context(), "uid:33", "sites")
	for name, err := range map[string]error{
		"suspend": client.Suspend(t.Context(), limit.Suspension{Key: "uid:33"}),
		"resume":  client.Resume(t.Context(), "uid:1"), "list": listErr, "limits": limitsErr,
	} {
		if err == nil || err.Error() != "the proxy: disk full" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLimits(t *testing.T) {
	want := LimitState{
		Key: "uid:33", Limit: "100 messages/hour", Used: 100, Max: 100, Refused: 7,
		Opens: time.Now().Add(time.Minute).UTC().Truncate(time.Second),
	}
	client := NewClient(open(t, &shelf{limits: []LimitState{{Key: "uid:1"}, want}}))
	got, err := client.Limits(t.Context(), "uid:33", "sites")
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%+v, %v", got, err)
	}
	if none, err := client.Limits(t.Context(), "account:a b&identity=uid:33", "sites"); err != nil || none == nil || len(none) != 0 {
		t.Errorf("%+v, %v of nobody", none, err)
	}
	if _, err := client.Limits(t.Context(), "", ""); err == nil || !strings.Contains(err.Error(), "limits of whom?") {
		t.Errorf("%v", err)
	}
}

// A word that the server does not know could have meant an end.
func TestSuspendBody(t *testing.T) {
	s := &shelf{}
	path := open(t, s)
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	for _, test := range []struct{ contentType, body, want string }{
		{typeJSON, `{"key":"uid:33","untl":"2030-01-01T00:00:00Z"}`, "unknown field"},
		{typeJSON, `{"key":"uid:33"}{}`, "there is more after it"},
		{typeJSON, `{"key":"uid:33","reason":"` + strings.Repeat("x", maxSuspension) + `"}`, "too large"},
		{"text/plain", `{"key":"uid:33"}`, "it must be application/json"},
	} {
		response, err := client.Post("http://smtpwall"+pathSuspend, test.contentType, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		var f failure
		if err := json.Unmarshal(said, &f); err != nil || response.StatusCode != http.StatusBadRequest || !strings.Contains(f.Error, test.want) {
			t.Errorf("%.60s: %s %s, want %q", test.body, response.Status, said, test.want)
		}
	}
	if len(s.off) > 0 {
		t.Errorf("%v was suspended", s.off)
	}
}
