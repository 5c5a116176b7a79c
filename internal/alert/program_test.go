package alert

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func script(t *testing.T, text string) []string {
	t.Helper()
	directory := t.TempDir()
	path := filepath.Join(directory, "tell")
	if err := errors.Join(os.Chmod(directory, 0o755), os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700)); err != nil {
		t.Fatal(err)
	}
	return []string{path, "one argument", "*"}
}

func run(t *testing.T, text string, limit time.Duration, body string) error {
	t.Helper()
	p := newProgram(Target{Exec: script(t, text)}, make(chan struct{}, 1))
	p.limit = limit
	return p.send(t.Context(), []byte(body))
}

func TestProgramGetsTheAlert(t *testing.T) {
	t.Setenv("SMTPWALL_TEST_SECRET", "1")
	out := filepath.Join(t.TempDir(), "out")
	err := run(t, `{ cat; echo; echo "$#:$1:$2"; pwd; env; } > `+out, time.Minute, `{"kind":"drift"}`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(got), "{\"kind\":\"drift\"}\n2:one argument:*\n/\n") {
		t.Errorf("got %s", got)
	}
	if strings.Contains(string(got), "SMTPWALL_TEST_SECRET") || strings.Contains(string(got), "HOME=") {
		t.Errorf("it has our environment: %s", got)
	}
}

func TestProgramThatFails(t *testing.T) {
	err := run(t, `echo "no such user" >&2; exit 3`, time.Minute, "")
	if err == nil || err.Error() != `running the program: exit status 3: "no such user"` {
		t.Errorf("error %v", err)
	}
	err = run(t, `yes "it talks" | head -c 100000 >&2; exit 1`, time.Minute, "")
	if err == nil || len(err.Error()) > 2*maxComplaint {
		t.Errorf("error of %d octets", len(err.Error()))
	}
	gone := newProgram(Target{Exec: []string{"/nonexistent/tell"}}, make(chan struct{}, 1))
	if err := gone.send(t.Context(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// One that does not read its input has not failed by that.
func TestProgramThatDoesNotRead(t *testing.T) {
	if err := run(t, `exit 0`, time.Minute, strings.Repeat("x", 1<<20)); err != nil {
		t.Error(err)
	}
}

// What runs too long is killed, and its children with it: only then has the
// fifo no writer any more.
func TestProgramIsKilledWithItsGroup(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan string, 1)
	go func() { // ends when all writers have
		text, _ := os.ReadFile(fifo)
		written <- string(text)
	}()
	err := run(t, `{ echo child; exec sleep 1000; } > `+fifo+` 2>&1 & wait`, 2*time.Second, "")
	if err == nil || err.Error() != "running the program: killed after 2s" {
		t.Errorf("error %v", err)
	}
	select {
	case text := <-written:
		if text != "child\n" {
			t.Errorf("the child wrote %q", text)
		}
	case <-time.After(20 * time.Second):
		t.Error("its child lives")
	}
}

// A program may leave a child that goes on.
func TestProgramThatLeavesAChild(t *testing.T) {
	if err := run(t, `sleep 2 & exit 0`, time.Minute, ""); err != nil {
		t.Error(err)
	}
}

func TestProgramsRunOneAtATime(t *testing.T) {
	directory := t.TempDir()
	// mkdir fails if another one is under way.
	argv := script(t, `cat >> `+directory+`/all; mkdir `+directory+`/busy || exit 1; sleep 0.2; rmdir `+directory+`/busy`)
	a := New(Options{Host: "h", Targets: []Target{{Exec: argv, Events: []string{"drift"}}, {Exec: argv, Events: []string{"drift", "limit"}}, {Exec: argv}}})
	a.Raise(Event{Kind: "drift", Text: "x"})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := a.Close(ctx); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(directory + "/all")
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(all)))
	count := 0
	for decoder.More() {
		var alert Alert
		if err := decoder.Decode(&alert); err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != 3 || a.Condition() != "" {
		t.Errorf("%d alerts, condition %q", count, a.Condition())
	}
}
