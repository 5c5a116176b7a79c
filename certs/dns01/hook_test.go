package dns01

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func hookOf(t *testing.T, script string) *Hook {
	t.Helper()
	directory := t.TempDir()
	path := filepath.Join(directory, "acme-dns")
	if err := errors.Join(os.Chmod(directory, 0o755), os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700)); err != nil {
		t.Fatal(err)
	}
	return &Hook{Command: []string{path, "one argument", "*"}, limit: patience}
}

// TestHook: what the program gets, and that is all.
func TestHook(t *testing.T) {
	t.Setenv("SMTPWALL_TEST_SECRET", "1")
	out := filepath.Join(t.TempDir(), "out")
	h := hookOf(t, `{ echo "$#:$1:$2:$3:$4:$5"; pwd; cat; env; } >> `+out)
	c := challenge("mail.example.net", "x")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Present(ended, c); !errors.Is(err, context.Canceled) {
		t.Errorf("present: error %v", err)
	}
	if err := h.Present(within(t), c); err != nil {
		t.Error(err)
	}
	if err := h.CleanUp(ended, c); err != nil { // for what was presented before it ended
		t.Error(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	tell := func(action string) string {
		return "5:one argument:*:" + action + ":_acme-challenge.mail.example.net:" + c.DNS01KeyAuthorization() + "\n/\n"
	}
	present, cleanup, found := strings.Cut(string(text), tell("cleanup"))
	if !found || !strings.HasPrefix(present, tell("present")) {
		t.Errorf("got %s", text)
	}
	for _, environment := range []string{strings.TrimPrefix(present, tell("present")), cleanup} {
		for line := range strings.Lines(environment) {
			name, _, _ := strings.Cut(line, "=")
			if name != "PATH" && name != "LC_ALL" && name != "PWD" && name != "OLDPWD" && name != "_" { // the shell sets the last three
				t.Errorf("in its environment: %s", line)
			}
		}
	}
}

// TestHookThatFails: internal/program tries what a program may do.
func TestHookThatFails(t *testing.T) {
	for script, want := range map[string]string{
		`echo "no such zone" >&2; exit 3`: `: exit status 3: "no such zone"`,
		`echo "it hangs"; sleep 1000`:     `: ended after 1s: "it hangs"`,
	} {
		h := hookOf(t, script)
		h.limit = time.Second
		wantError(t, h.Present(within(t), challenge("mail.example.net", "x")), "running "+h.Command[0]+want)
		wantError(t, h.CleanUp(within(t), challenge("mail.example.net", "x")), "running "+h.Command[0]+want)
	}
}

// TestHookOfOthersIsNotRun.
func TestHookOfOthersIsNotRun(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	h := hookOf(t, "touch "+ran)
	if err := os.Chmod(h.Command[0], 0o777); err != nil {
		t.Fatal(err)
	}
	err := h.Present(within(t), challenge("mail.example.net", "x"))
	wantError(t, err, "not running the program "+h.Command[0]+": "+h.Command[0]+" can be changed by others than its owner (mode 0777)")
	if _, err := os.Stat(ran); err == nil {
		t.Error("it ran")
	}
}

// TestHooksRunOneAtATime, and whoever waits for a turn can be called off.
func TestHooksRunOneAtATime(t *testing.T) {
	directory := t.TempDir()
	// mkdir fails if another one is under way.
	h := hookOf(t, `mkdir `+directory+`/busy || exit 1; sleep 0.2; rmdir `+directory+`/busy`)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := h.Present(within(t), challenge("mail.example.net", "x")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	h.turn <- struct{}{}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Present(ctx, challenge("mail.example.net", "x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	<-h.turn
}

func TestHookValidate(t *testing.T) {
	for name, c := range map[string]struct {
		hook *Hook
		want string
	}{
		"in order":     {&Hook{Command: []string{"/usr/local/sbin/acme-dns"}, Resolvers: []string{"192.0.2.1"}}, ""},
		"nothing":      {&Hook{}, "hook: names no program"},
		"empty":        {&Hook{Command: []string{"", "x"}}, "hook: names no program"},
		"relative":     {&Hook{Command: []string{"acme-dns"}}, `hook: "acme-dns" is not an absolute path`},
		"odd resolver": {&Hook{Command: []string{"/x"}, Resolvers: []string{"/"}}, `resolvers: "/" is not host:port`},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, c.hook.Validate(), c.want)
			if c.want != "" {
				wantError(t, c.hook.Present(within(t), challenge("mail.example.net", "x")), c.want)
			}
		})
	}
}
