package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/guard"
)

// fakeGuard has a mode and changes it as it is told, over a real socket.
type fakeGuard struct {
	mu     sync.Mutex
	status guard.Status
	failed string // what it says to any order
	orders []string
}

// serve makes the guard that the commands of this test ask.
func (g *fakeGuard) serve(t *testing.T) {
	t.Helper()
	directory, err := os.MkdirTemp("", "guard")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("RUNTIME_DIRECTORY", directory)
	ln, err := net.Listen("unix", filepath.Join(directory, "guard.sock"))
	if err != nil {
		t.Fatal(err)
	}
	var working sync.WaitGroup
	working.Go(func() { // ends when the listener is closed
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			working.Go(func() { g.converse(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		working.Wait()
		_ = os.RemoveAll(directory)
	})
}

// converse answers until the client hangs up.
func (g *fakeGuard) converse(conn net.Conn) {
	defer conn.Close()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var q struct {
			Op      string `json:"op"`
			Seconds int64  `json:"seconds"`
		}
		if json.Unmarshal(lines.Bytes(), &q) != nil {
			return
		}
		if json.NewEncoder(conn).Encode(g.answer(q.Op, q.Seconds)) != nil {
			return
		}
	}
}

func (g *fakeGuard) answer(op string, seconds int64) map[string]any {
	g.mu.Lock()
	defer g.mu.Unlock()
	if op == "status" {
		return map[string]any{"status": g.status}
	}
	g.orders = append(g.orders, op)
	if g.failed != "" {
		return map[string]any{"error": g.failed}
	}
	s := &g.status.ModeState
	switch op {
	case "enforce":
		s.Mode, s.Confirmed, s.Until = "enforce", seconds == 0, time.Time{}
		if seconds > 0 {
			s.Until = time.Now().Add(time.Duration(seconds) * time.Second)
		}
	case "confirm":
		s.Confirmed, s.Until = true, time.Time{}
	case "observe":
		s.Mode, s.Confirmed, s.Until = "observe", true, time.Time{}
	}
	g.status.Released = false
	return map[string]any{}
}

// told is what it was told since the last time.
func (g *fakeGuard) told() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	orders := strings.Join(g.orders, " ")
	g.orders = nil
	return orders
}

// inMode is a guard in a mode that was confirmed.
func inMode(mode string) *fakeGuard {
	return &fakeGuard{status: guard.Status{Mode: mode, ModeState: guard.ModeState{Configured: "observe", Mode: mode, Confirmed: true}}}
}

func TestEnforceOnTrial(t *testing.T) {
	g := inMode("observe")
	g.serve(t)
	config := file(t, "[listen]\nadmin = \"DIR/a\"\n")
	status, out, err := run(t, "", "enforce", "--confirm-within", "10m", "--config", config)
	if status != exitDone || out != "" || g.told() != "enforce" || g.status.ModeState.Confirmed {
		t.Errorf("%d, %q, %q, %+v", status, out, err, g.status)
	}
	if left := time.Until(g.status.ModeState.Until); left > 10*time.Minute || left < 9*time.Minute {
		t.Errorf("the trial is over in %v", left)
	}
	for _, want := range []string{
		"warning: no proxy is running: whoever is redirected to it finds nobody", "warning: no relay is configured: mail is held until there is one",
		"enforcing: port 25 elsewhere is refused", "on trial until ", " unless smtpwall confirm comes\n", "hint: smtpwall observe goes back at once",
		config + ` still says mode = "observe": `,
	} {
		if !strings.Contains(err, want) {
			t.Errorf("no %q in %q", want, err)
		}
	}
	status, _, err = run(t, "", "confirm", "--config", config)
	if status != exitDone || g.told() != "confirm" || !strings.Contains(err, "enforce mode stays, over restarts and reboots too") ||
		!strings.Contains(err, `still says mode = "observe"`) {
		t.Errorf("%d, %q", status, err)
	}
	status, _, err = run(t, "", "confirm", "--config", config)
	if status != exitFailed || g.told() != "" || !strings.Contains(err, "there is no trial to confirm: enforce, the configuration says observe\nhint: ") {
		t.Errorf("a second confirm: %d, %q", status, err)
	}
	status, _, err = run(t, "", "enforce", "--confirm-within", "10m", "--config", config)
	if status != exitFailed || g.told() != "" || !strings.Contains(err, "there is nothing to try\nhint: smtpwall observe") {
		t.Errorf("a trial of what stays: %d, %q", status, err)
	}
	if status, _, err = run(t, "", "enforce", "--yes", "--config", config); status != exitDone || g.told() != "" || err != "enforce mode is on already\n" {
		t.Errorf("again: %d, %q", status, err)
	}
}

func TestEnforceForGood(t *testing.T) {
	for _, test := range []struct {
		name, keys string
		args       []string
		status     int
		said, told string
	}{
		{"nobody to ask", "", nil, exitUsage, "there is nobody to ask\nhint: --confirm-within 10m goes back by itself", ""},
		{"--yes", "", []string{"--yes"}, exitDone, "enforcing: port 25", "enforce"},
		{"no", "n\n", nil, exitFailed, "error: nothing was changed\r\n", ""},
		{"yes", "y\n", nil, exitDone, "enforcing: port 25", "enforce"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := inMode("observe")
			g.serve(t)
			config := file(t, "mode = \"enforce\"\n[listen]\nadmin = \"DIR/a\"\n")
			args := append([]string{"enforce", "--config", config}, test.args...)
			status, said := 0, ""
			if test.keys == "" {
				status, _, said = run(t, "", args...)
			} else {
				person, program := terminal(t)
				if _, err := person.WriteString(test.keys); err != nil {
					t.Fatal(err)
				}
				c := &console{in: program, out: &bytes.Buffer{}, err: program}
				status = c.main(t.Context(), args)
				said = screen(t, person, test.said)
				if !strings.Contains(said, "Enforce from now on, with no way back by itself") {
					t.Errorf("asked %q", said)
				}
			}
			if status != test.status || !strings.Contains(said, test.said) || g.told() != test.told {
				t.Errorf("%d, %q; want %d, %q, %q", status, said, test.status, test.said, test.told)
			}
		})
	}
}

func TestObserve(t *testing.T) {
	g := inMode("enforce")
	g.status.ModeState.Configured = "enforce"
	g.serve(t)
	broken := file(t, "mode = \"what") // must keep nobody from taking the block down
	status, _, err := run(t, "", "observe", "--config", broken)
	if status != exitDone || g.told() != "observe" || !strings.Contains(err, "observing: the block is down") || !strings.Contains(err, `says mode = "enforce"`) {
		t.Errorf("%d, %q", status, err)
	}
	if status, _, err = run(t, "", "observe"); status != exitDone || g.told() != "" || err != "observe mode is on already\n" {
		t.Errorf("again: %d, %q", status, err)
	}
	g.status.Released = true // the rules are to come back, to count
	if status, _, err = run(t, "", "observe"); status != exitDone || g.told() != "observe" {
		t.Errorf("after a release: %d, %q", status, err)
	}
	status, _, err = run(t, "", "enforce", "--confirm-within", "1h", "--config", broken)
	if status != exitDone || g.told() != "enforce" || !strings.Contains(err, "cannot be used: smtpwall check says why") {
		t.Errorf("enforce with a broken file: %d, %q", status, err)
	}
}

func TestModeFails(t *testing.T) {
	noGuard(t)
	for _, args := range [][]string{{"enforce", "--confirm-within", "10m"}, {"confirm"}, {"observe"}} {
		status, _, err := run(t, "", args...)
		if status != exitFailed || !strings.Contains(err, "no guard is running\nhint: systemctl start smtpwall-guard.service") {
			t.Errorf("%q: %d, %q", args, status, err)
		}
	}
	g := inMode("observe")
	g.failed = "the kernel said no"
	g.serve(t)
	config := file(t, "[listen]\nadmin = \"DIR/a\"\n")
	status, _, err := run(t, "", "enforce", "--yes", "--config", config)
	if status != exitFailed || !strings.Contains(err, "error: guard: the kernel said no\nhint: smtpwall status shows the mode\n") || strings.Contains(err, "enforcing:") {
		t.Errorf("%d, %q", status, err)
	}
	for _, test := range []struct{ args, err string }{
		{"enforce --yes --confirm-within 10m", "--yes enforces for good, --confirm-within does not"},
		{"enforce --confirm-within 5s", "--confirm-within takes from 10s to 30 days"},
		{"enforce --confirm-within 31d", "--confirm-within takes from 10s to 30 days"},
		{"enforce --confirm-within 10", "write a number and a unit"},
		{"enforce now", `unexpected argument "now"`},
		{"confirm now", `unexpected argument "now"`},
		{"observe now", `unexpected argument "now"`},
	} {
		if status, _, err := run(t, "", strings.Fields(test.args)...); status != exitUsage || !strings.Contains(err, test.err) {
			t.Errorf("%s: %d, %q; want %q", test.args, status, err, test.err)
		}
	}
}

func TestModeLine(t *testing.T) {
	since := time.Date(2026, 11, 1, 12, 0, 0, 0, time.Local)
	until := since.Add(10 * time.Minute)
	for _, test := range []struct {
		state guard.ModeState
		want  string
	}{
		{guard.ModeState{Configured: "observe", Mode: "observe", Confirmed: true, By: "configuration"}, "observe"},
		{guard.ModeState{Configured: "enforce", Mode: "enforce", Since: since, Confirmed: true, By: "configuration"}, "enforce since " + timeText(since)},
		{guard.ModeState{Configured: "observe", Mode: "enforce", Since: since, Until: until, By: "root"},
			"enforce since " + timeText(since) + ", on trial until " + timeText(until) + ", then observe unless smtpwall confirm comes, by root"},
		{guard.ModeState{Configured: "enforce", Mode: "observe", Confirmed: true, By: "end of the trial"}, "observe, the configuration says enforce, by end of the trial"},
	} {
		if got := modeLine(&test.state); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
