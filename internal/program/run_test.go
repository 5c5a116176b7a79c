package program

import (
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

// run runs a script, and takes its path out of the error.
func run(t *testing.T, text string, limit time.Duration, input string) error {
	t.Helper()
	argv := script(t, text)
	err := Run(t.Context(), argv, []byte(input), "LANG=C.UTF-8", limit)
	if err == nil {
		return nil
	}
	return errors.New(strings.ReplaceAll(err.Error(), argv[0], "PROGRAM"))
}

func TestRun(t *testing.T) {
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
	if !strings.Contains(string(got), "LANG=C.UTF-8\n") {
		t.Errorf("it has another language: %s", got)
	}
	if strings.Contains(string(got), "SMTPWALL_TEST_SECRET") || strings.Contains(string(got), "HOME=") {
		t.Errorf("it has our environment: %s", got)
	}
}

func TestProgramThatFails(t *testing.T) {
	err := run(t, `echo "no such user" >&2; exit 3`, time.Minute, "")
	if err == nil || err.Error() != `running PROGRAM: exit status 3: "no such user"` {
		t.Errorf("error %v", err)
	}
	err = run(t, `yes "it talks" | head -c 100000 >&2; exit 1`, time.Minute, "")
	if err == nil || len(err.Error()) > 2*maxOutput {
		t.Errorf("error of %d octets", len(err.Error()))
	}
	if err := Run(t.Context(), []string{"/nonexistent/tell"}, nil, "LANG=C.UTF-8", time.Minute); !errors.Is(err, os.ErrNotExist) {
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
	if err == nil || err.Error() != "running PROGRAM: ended after 2s" {
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

// TestProgramOfOthersIsNotRun: it was in order when the configuration was read.
func TestProgramOfOthersIsNotRun(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	argv := script(t, "touch "+ran)
	if err := os.Chmod(argv[0], 0o777); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), argv, nil, "LANG=C.UTF-8", time.Minute)
	if err == nil || err.Error() != "not running the program "+argv[0]+": "+argv[0]+" can be changed by others than its owner (mode 0777)" {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("it ran")
	}
	if err := os.Chmod(argv[0], 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), argv, nil, "LANG=C.UTF-8", time.Minute); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(ran); err != nil {
		t.Error(err)
	}
}
