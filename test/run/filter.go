package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// event is one line of test2json (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// filter turns the events of "go test -json" back into the lines of "go test":
// those of packages at once, those of a test when it fails. It returns a line
// for each skipped test.
func filter(in io.Reader, out io.Writer) (skipped []string, err error) {
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, 16<<20)
	tests := map[[2]string]string{} // output so far of the tests under way
	for scanner.Scan() {
		var e event
		if json.Unmarshal(scanner.Bytes(), &e) != nil {
			fmt.Fprintln(out, scanner.Text()) // not an event: as the go command prints it
			continue
		}
		if e.Test == "" {
			printPackage(out, e, tests)
			continue
		}
		key := [2]string{e.Package, e.Test}
		switch e.Action {
		case "output":
			if !isProgress(e.Output) {
				tests[key] += e.Output
			}
		case "skip":
			skipped = append(skipped, fmt.Sprintf("FAIL: skipped, and must not be here: %s %s\n%s", e.Package, e.Test, tests[key]))
			delete(tests, key)
		case "fail":
			io.WriteString(out, tests[key])
			delete(tests, key)
		case "pass":
			delete(tests, key)
		}
	}
	return skipped, scanner.Err()
}

// printPackage prints what belongs to no test. When a package fails, tests may
// be under way still (a panic, a time limit): theirs is the interesting output.
func printPackage(out io.Writer, e event, tests map[[2]string]string) {
	switch e.Action {
	case "output", "build-output":
		if e.Output != "PASS\n" {
			io.WriteString(out, e.Output)
		}
	case "fail":
		for key, text := range tests {
			if key[0] == e.Package {
				io.WriteString(out, text)
				delete(tests, key)
			}
		}
	}
}

// isProgress reports whether line is one that only "go test -v" prints.
func isProgress(line string) bool {
	for _, prefix := range []string{"=== RUN ", "=== PAUSE ", "=== CONT ", "=== NAME "} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}
