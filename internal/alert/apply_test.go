package alert

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"
)

// What stays goes on with its counts and a new secret; what goes gets what
// waits for it; what comes begins.
func TestApply(t *testing.T) {
	type post struct {
		key   string
		alert Alert
	}
	posts := make(chan post, 10)
	url, roots := hook(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got := post{key: "none"}
		for _, key := range []string{"old", "new"} {
			if verify(r.Header.Get(SignatureHeader), body, []byte(key), time.Now()) == nil {
				got.key = key
			}
		}
		if err := json.Unmarshal(body, &got.alert); err != nil {
			t.Error(err)
		}
		posts <- got
	})
	target := func(path, key string) Target { return Target{URL: url + path, Secret: []byte(key), Roots: roots} }
	a := New(Options{Targets: []Target{target("/stays", "old")}})
	a.Raise(Event{Kind: "limit", Identity: "uid:33"})
	if got := <-posts; got.key != "old" || got.alert.Kind != "limit" {
		t.Fatalf("%+v", got)
	}
	a.Raise(Event{Kind: "limit", Identity: "uid:33"}) // counted

	a.Apply([]Target{target("/stays", "new"), target("/stays", "new")})
	if len(a.lanes) != 1 {
		t.Errorf("%d lanes, want one: a target that is there twice is one", len(a.lanes))
	}
	a.Raise(Event{Kind: "drift"})
	if got := <-posts; got.key != "new" || got.alert.Kind != "drift" {
		t.Fatalf("%+v", got)
	}

	a.Apply([]Target{target("/comes", "new")})
	if got := <-posts; got.alert.Kind != "limit" || got.alert.Count != 1 {
		t.Fatalf("what waited for the one that went: %+v", got)
	}
	a.Raise(Event{Kind: "limit", Identity: "uid:33"})
	if got := <-posts; got.alert.Kind != "limit" {
		t.Fatalf("%+v", got)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWithoutTargets(t *testing.T) {
	a := New(Options{})
	a.Raise(Event{Kind: "drift"})
	if a.Condition() != "" {
		t.Error(a.Condition())
	}
	if err := a.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
