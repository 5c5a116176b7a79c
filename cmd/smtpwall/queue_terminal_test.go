package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal: what is written to one end is read at the other
// as a person's keys and screen (pty(7)).
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

// screen is what a terminal shows up to some words.
func screen(t *testing.T, person *os.File, last string) string {
	t.Helper()
	var shown bytes.Buffer
	for piece := make([]byte, 4096); !strings.Contains(shown.String(), last); {
		n, err := person.Read(piece)
		if err != nil {
			t.Fatalf("the terminal showed %q and then %v; want %q", shown.String(), err, last)
		}
		shown.Write(piece[:n])
	}
	return shown.String()
}

// At a terminal a person is asked before anything is dropped.
func TestDropAsks(t *testing.T) {
	for _, test := range []struct {
		keys   string
		status int
		said   string
		left   int
	}{
		{"n\n", exitFailed, "smtpwall: error: nothing was dropped\r\n", 4},
		{"\n", exitFailed, "smtpwall: error: nothing was dropped\r\n", 4},
		{"y\n", exitDone, "3 messages dropped\r\n", 1},
	} {
		p := letters()
		config := p.serve(t)
		person, program := terminal(t)
		if _, err := person.WriteString(test.keys); err != nil {
			t.Fatal(err)
		}
		c := &console{in: program, out: &bytes.Buffer{}, err: program}
		status := c.main(t.Context(), []string{"queue", "drop", "--all", "--config", config})
		shown := screen(t, person, test.said)
		if status != test.status || !strings.Contains(shown, "Drop 3 messages, 4.5 KiB? Nobody will be told. [y/N] ") || len(p.items) != test.left {
			t.Errorf("after %q: %d, %q and %d messages are left", test.keys, status, shown, len(p.items))
		}
	}
}

// What a stranger wrote does not steer the terminal on which it is shown.
func TestShowOnATerminal(t *testing.T) {
	config := letters().serve(t)
	person, program := terminal(t)
	c := &console{in: program, out: program, err: &bytes.Buffer{}}
	if status := c.main(t.Context(), []string{"queue", "show", "--body", "A", "--config", config}); status != exitDone {
		t.Errorf("status %d", status)
	}
	shown := screen(t, person, "body")
	if !strings.Contains(shown, `Subject: \x1b]0;hi\a`) || strings.ContainsAny(shown, "\x1b\x07") {
		t.Errorf("%q", shown)
	}
}

func TestBarOnATerminal(t *testing.T) {
	person, program := terminal(t)
	if err := unix.IoctlSetWinsize(int(person.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 60}); err != nil {
		t.Fatal(err)
	}
	bar := (&console{err: program}).progress("dropping")
	bar.began = bar.began.Add(-time.Minute)
	bar.set(30, 60)
	bar.end()
	if shown := screen(t, person, "\x1b[K\r\x1b[K"); !strings.Contains(shown, "] 30 of 60, 50%, 1m left") || len(shown) > 60+len("\r\x1b[K\r\x1b[K") {
		t.Errorf("%q", shown)
	}
}
