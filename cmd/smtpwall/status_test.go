package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// noGuard makes sure that no guard of this machine is asked.
func noGuard(t *testing.T) { t.Setenv("RUNTIME_DIRECTORY", t.TempDir()) }

func TestRelayText(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		status relay.Status
		want   string
	}{
		{relay.Status{Name: "main", Breaker: relay.BreakerClosed, Cap: 50, Max: 50}, "main: ready"},
		{relay.Status{Name: "main", Breaker: relay.BreakerClosed, Open: 3, Lent: 1, Cap: 50, Max: 50, Ports: []relay.PortStatus{{Port: 587, State: relay.PortWorks}}},
			"main: ready; 3 connections open, 1 in use; port 587 works"},
		{relay.Status{Name: "main", Breaker: relay.BreakerClosed, Cap: 50, Max: 50, Ports: []relay.PortStatus{
			{Port: 587, State: relay.PortBlocked, Error: "i/o timeout"}, {Port: 2525, State: relay.PortWorks}, {Port: 465, State: relay.PortUntried}}},
			"main: ready; port 587 blocked by this network (i/o timeout), 2525 works, 465 not tried yet"},
		{relay.Status{Name: "main", Breaker: relay.BreakerOpen, RetryAt: now.Add(90 * time.Second), Error: "connection\x07 refused", Cap: 50, Max: 50,
			Ports: []relay.PortStatus{{Port: 587, State: relay.PortFailed, Error: "connection refused"}}},
			`main: left alone after failures, tried again in 1m: connection\a refused; port 587 failed`},
		{relay.Status{Name: "main", Breaker: relay.BreakerOpen, RetryAt: now.Add(-time.Second), Error: "x", Cap: 50, Max: 50},
			"main: left alone after failures, tried with the next message: x"},
		{relay.Status{Name: "main", Breaker: relay.BreakerHalfOpen, Error: "x", Cap: 50, Max: 50}, "main: being tried again: x"},
		{relay.Status{Name: "main", Breaker: relay.BreakerClosed, Error: "x", Cap: 2, Max: 50, Pace: 1500 * time.Millisecond},
			"main: failed last: x; at most 2 connections for now instead of 50, as the relay wants; one message each 1.5s"},
	} {
		if got := relayText(&test.status, now); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// working is a host where all is well.
func working() state {
	return state{
		relays: 1,
		guard: guard.Status{
			InForce: true, Applied: true, Mode: "enforce", Lock: "held", ModeState: guard.ModeState{Configured: "enforce", Mode: "enforce", Confirmed: true},
			Allow: []guard.AllowStatus{
				{Who: "user postfix", Destination: "smtp.example.com:587", Count: 12},
				{Who: "unit x.service", Destination: "192.0.2.0/24:25", Count: 1, Error: "the unit does not run\x1b"},
			},
		},
		proxy: admin.Status{
			Started: time.Now().Add(-3 * time.Hour), Sessions: 2,
			Relays: []relay.Status{{Name: "main", Breaker: relay.BreakerClosed, Cap: 50, Max: 50}},
		},
		spool: admin.SpoolStatus{
			Bytes: 3 << 20, MaxBytes: 1 << 30, Messages: 5, Oldest: time.Now().Add(-time.Hour),
			ByState: map[string]int{"deferred": 3, "hold": 1, "active": 1},
		},
	}
}

func TestPrintState(t *testing.T) {
	var out bytes.Buffer
	(&console{out: &out}).printState(working())
	for _, want := range []string{", 3h ago, sessions: 2\n", "mode enforce, rules in force, lock table held\n",
		"\nallow user postfix to smtp.example.com:587: 12 connections left alone\n",
		"\nallow unit x.service to 192.0.2.0/24:25: 1 connection left alone, but not now: the unit does not run\\x1b\n", "relay main: ready\n",
		"spool: 5 messages (1 active, 3 deferred, 1 hold), 3.0 MiB of 1.0 GiB, the oldest that is not in hold came 1h ago\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "degraded") || strings.Contains(out.String(), "no relay") {
		t.Errorf("what is well is not:\n%s", out.String())
	}
	if strings.Count(out.String(), "mode ") != 1 {
		t.Errorf("the mode is as configured, and more is said of it:\n%s", out.String())
	}
	out.Reset()
	s := working()
	s.guard.ModeState.Confirmed, s.guard.ModeState.Until = false, time.Now().Add(time.Hour)
	s.relays, s.spool.Corrupt, s.proxy.Suspended = 0, 2, 3
	s.guard.Conditions = map[string]string{"relays": "no address of main"}
	s.proxy.Conditions = map[string]string{"relay main": "no route\x1b", "audit": "disk full"}
	(&console{out: &out}).printState(s)
	want := "no relay is configured: 1 message is held until there is one\n" +
		"degraded: relays: no address of main\n" +
		"degraded: audit: disk full\n" +
		"degraded: relay main: no route\\x1b\n" +
		"degraded: spool: 2 messages are damaged and put aside, in corrupt/\n"
	for _, want := range []string{"\nsuspended: 3, whom smtpwall suspend lists\n", "\nmode enforce, on trial until "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if !strings.HasSuffix(out.String(), want) {
		t.Errorf("%s\nwant at the end:\n%s", out.String(), want)
	}
}

func TestVerdict(t *testing.T) {
	away := fmt.Errorf("%w: nobody answers", app.ErrNoProxy)
	denied := errors.New("permission denied")
	for _, test := range []struct {
		name   string
		change func(*state)
		status int
		err    string
	}{
		{"all is well", func(*state) {}, exitDone, ""},
		{"no guard", func(s *state) { s.guardErr = app.ErrNoGuard }, exitDegraded, "no guard is running: nothing keeps the rules up"},
		{"no proxy", func(s *state) { s.proxyErr = away }, exitDegraded, "no proxy is running: no mail is accepted"},
		{"nothing runs", func(s *state) { s.guardErr, s.proxyErr = app.ErrNoGuard, away }, exitDegraded, "neither guard nor proxy is running"},
		{"no admin socket", func(s *state) { s.proxyErr = app.ErrNoAdmin }, exitDone, ""},
		{"a member of the group", func(s *state) { s.guardErr = denied }, exitDone, ""},
		{"a stranger", func(s *state) { s.guardErr, s.proxyErr = denied, app.ErrNotAllowed }, exitFailed, "permission denied"},
		{"rules changed", func(s *state) { s.guard.InForce = false }, exitDegraded, ""},
		{"a condition of the proxy", func(s *state) { s.proxy.Conditions = map[string]string{"audit": "disk full"} }, exitDegraded, ""},
		{"a condition of the guard", func(s *state) { s.guard.Conditions = map[string]string{"log": "lost"} }, exitDegraded, ""},
		{"a damaged message", func(s *state) { s.spool.Corrupt = 1 }, exitDegraded, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := working()
			test.change(&s)
			var errOut bytes.Buffer
			status := (&console{err: &errOut}).status(s.verdict())
			if status != test.status || !strings.Contains(errOut.String(), test.err) || (test.err == "") != (errOut.Len() == 0) {
				t.Errorf("%d, %q; want %d, %q", status, errOut.String(), test.status, test.err)
			}
		})
	}
}

// The proxy's half is told without a guard.
func TestStatusOfTheProxyAlone(t *testing.T) {
	noGuard(t)
	p := letters()
	p.status = working().proxy
	p.status.Spool = working().spool
	config := p.serve(t)
	status, out, err := run(t, "", "status", "--config", config)
	if status != exitDegraded || !strings.Contains(err, "no guard is running") || !strings.HasPrefix(out, "guard: no guard is running\nproxy up since ") {
		t.Errorf("%d, %q, %q", status, err, out)
	}
	status, out, _ = run(t, "", "status", "--json", "--config", config)
	var got statusJSON
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != exitDegraded || got.Guard != nil || got.GuardError == "" ||
		got.Proxy == nil || got.Proxy.Sessions != 2 || got.Held != 1 || !got.Degraded {
		t.Errorf("%d, %v, %s", status, err, out)
	}
}

// Without any of the two the spool's files are counted.
func TestStatusOfNothing(t *testing.T) {
	noGuard(t)
	config := file(t, "[listen]\nadmin = \"DIR/a\"\n[delivery]\nspool = \"DIR/spool\"\n")
	status, out, err := run(t, "", "status", "--config", config)
	if status != exitDegraded || !strings.Contains(err, "neither guard nor proxy is running") || !strings.Contains(out, "\nspool: 0 messages, 0 B of 1.0 GiB\n") {
		t.Errorf("%d, %q, %q", status, err, out)
	}
	keep(t, filepath.Join(filepath.Dir(config), "spool"), "H", spool.Hold)
	if _, out, _ = run(t, "", "status", "--config", config); !strings.Contains(out, "\nspool: 1 message (1 hold), ") ||
		!strings.Contains(out, "no relay is configured: 1 message is held until there is one\n") {
		t.Errorf("%q", out)
	}
}
