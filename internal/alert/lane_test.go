package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// receiver records what it gets, and fails as it is told.
type receiver struct {
	mu     sync.Mutex
	tries  []time.Duration // since it was made
	alerts []Alert
	begun  time.Time
	fail   func(try int) error
	again  int
	block  bool // until the context ends
}

func (r *receiver) retries() int { return r.again }

func (r *receiver) send(ctx context.Context, body []byte) error {
	if r.block {
		<-ctx.Done()
		return ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries = append(r.tries, time.Since(r.begun))
	if r.fail != nil {
		if err := r.fail(len(r.tries)); err != nil {
			return err
		}
	}
	var alert Alert
	if err := json.Unmarshal(body, &alert); err != nil {
		return finalError{err}
	}
	r.alerts = append(r.alerts, alert)
	return nil
}

func (r *receiver) times() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]time.Duration(nil), r.tries...)
}

func (r *receiver) got() []Alert {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Alert(nil), r.alerts...)
}

// with starts an Alerter whose one target is the receiver.
func with(r *receiver, logger *zap.Logger) *Alerter {
	r.begun = time.Now()
	a := New(Options{Host: "vps1.example.net", Logger: logger})
	a.lanes = []*lane{a.start(Target{URL: "https://hooks.example.com/secret/path"}, r)}
	return a
}

func TestAlertsArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{}
		a := with(r, nil)
		lane := a.lanes[0]
		for i := range 1000 {
			a.Raise(Event{Kind: "blocked", Identity: "uid:33", Text: fmt.Sprint("blocked ", i), Fields: map[string]string{"rule": "sites"}})
		}
		synctest.Wait()
		if got := r.got(); len(got) != 1 || got[0].Host != "vps1.example.net" || got[0].Fields["rule"] != "sites" || got[0].ID == "" {
			t.Fatalf("at once %+v, want one alert", got)
		}
		time.Sleep(period + time.Second)
		synctest.Wait()
		if got := r.got(); len(got) != 2 || got[1].Count != 999 || got[1].ID == got[0].ID {
			t.Fatalf("after a period %+v, want one more with a count of 999", got)
		}
		a.Raise(Event{Kind: "blocked", Identity: "uid:33"})
		if err := a.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := r.got(); len(got) != 3 || got[2].Count != 1 || got[2].Kind != "blocked" {
			t.Errorf("after the end %+v, want what was counted", got)
		}
		a.Raise(Event{Kind: "blocked", Identity: "uid:34"})
		a.Apply([]Target{{URL: "https://hooks.example.com"}})
		lane.raise(time.Now(), Event{Kind: "blocked", Identity: "uid:35"})
		if got := r.got(); len(got) != 3 || a.lanes != nil {
			t.Error("goes on after Close")
		}
	})
}

func TestTriesAgainThenDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		r := &receiver{again: 5, fail: func(try int) error {
			if try <= 6 {
				return fmt.Errorf("failure %d", try)
			}
			return nil
		}}
		a := with(r, zap.New(core))
		a.Raise(Event{Kind: "drift", Identity: "host", Text: "somebody took a rule away"})
		time.Sleep(time.Hour)
		want := "[0s 1s 5s 21s 1m25s 5m41s]"
		if got := fmt.Sprint(r.times()); got != want {
			t.Errorf("tries at %s, want %s", got, want)
		}
		if entries := logs.FilterMessage("alert dropped").All(); len(entries) != 1 || entries[0].ContextMap()["error"] != "failure 6" {
			t.Errorf("log %+v, want that it was dropped", entries)
		}
		condition := a.Condition()
		since := r.begun.Format(time.RFC3339)
		if condition != "alerts do not reach webhook https://hooks.example.com since "+since+": failure 6" {
			t.Errorf("condition %q", condition)
		}
		a.Raise(Event{Kind: "drift", Identity: "another"})
		synctest.Wait()
		if got := r.got(); len(got) != 1 || a.Condition() != "" {
			t.Errorf("then %+v, condition %q, want it delivered, and no condition", got, a.Condition())
		}
		if err := a.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatIsFinalIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{again: 5, fail: func(int) error { return finalError{errors.New("no such hook")} }}
		a := with(r, nil)
		a.Raise(Event{Kind: "drift"})
		time.Sleep(time.Hour)
		if len(r.times()) != 1 || !strings.HasSuffix(a.Condition(), "no such hook") {
			t.Errorf("tries at %v, condition %q", r.times(), a.Condition())
		}
		a.Close(t.Context())
	})
}

// One that waits to be tried again is tried once more at the end.
func TestCloseDoesNotWaitForPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{again: 5, fail: func(try int) error {
			if try < 4 {
				return errors.New("not yet")
			}
			return nil
		}}
		a := with(r, nil)
		a.Raise(Event{Kind: "drift"})
		time.Sleep(10 * time.Second)
		if err := a.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(r.times()); got != "[0s 1s 5s 10s]" || len(r.got()) != 1 {
			t.Errorf("tries at %s, got %v", got, r.got())
		}
	})
}

func TestCloseEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		r := &receiver{again: 5, block: true}
		a := with(r, zap.New(core))
		for i := range 10 {
			a.Raise(Event{Kind: "drift", Identity: fmt.Sprint(i)})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := a.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if n := logs.FilterMessage("alert dropped").Len(); n != 10 || time.Since(r.begun) != 5*time.Second {
			t.Errorf("%d dropped after %v, want 10 after 5s", n, time.Since(r.begun))
		}
	})
}

// Raise goes on while a target takes nothing, and the counts come later.
func TestRaiseNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events = 20_000
		r := &receiver{again: 100, fail: func(try int) error {
			if try < 5 {
				return errors.New("away")
			}
			return nil
		}}
		a := with(r, nil)
		for i := range events {
			a.Raise(Event{Kind: "blocked", Identity: fmt.Sprint(i % 3000)})
		}
		if time.Since(r.begun) != 0 {
			t.Error("Raise waited")
		}
		time.Sleep(time.Hour)
		if err := a.Close(t.Context()); err != nil {
			t.Error(err)
		}
		total := 0
		for _, alert := range r.got() {
			total += alert.Count
		}
		if total != events {
			t.Errorf("%d events told of %d", total, events)
		}
	})
}

func TestTargetsChoose(t *testing.T) {
	tests := []struct {
		events []string
		kind   string
		want   bool
	}{
		{nil, "drift", true},
		{[]string{"limit", "drift"}, "drift", true},
		{[]string{"limit"}, "drift", false},
		{[]string{"limit"}, Storm, true},
	}
	for _, test := range tests {
		if got := (Target{Events: test.events}).wants(test.kind); got != test.want {
			t.Errorf("%v wants %s: %v", test.events, test.kind, got)
		}
	}
}

func TestNames(t *testing.T) {
	tests := map[string]Target{
		"exec /usr/local/bin/tell":          {Exec: []string{"/usr/local/bin/tell", "--token", "secret"}},
		"webhook https://hooks.example.com": {URL: "https://user:secret@hooks.example.com/secret?secret"},
		"webhook":                           {URL: "::secret"},
	}
	for want, target := range tests {
		if got := target.name(); got != want {
			t.Errorf("name %q, want %q", got, want)
		}
	}
}
