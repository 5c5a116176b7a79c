package alert

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
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
