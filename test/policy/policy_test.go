// Package policy_test decides the cases of testdata: configurations as an
// administrator writes them, who sends what, and what must come of it. Each
// case goes from the text through internal/config and internal/app to
// proxy/policy. See testdata/README.
package policy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
)

// leastCases is what the table must have at any time.
const leastCases = 100

func TestCases(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no cases", err)
	}
	cases := 0
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := parseFile(string(text))
			if err != nil {
				t.Fatal(err)
			}
			cases += len(f.cases) + len(f.problems) + len(f.expects)
			f.run(t)
		})
	}
	if cases < leastCases {
		t.Errorf("%d cases, want %d at least", cases, leastCases)
	}
	t.Logf("%d cases in %d files", cases, len(paths))
}

func (f *file) run(t *testing.T) {
	cfg, problems := config.Parse("config", []byte(f.config), config.Options{SkipSecrets: true})
	compare(t, "problems", f.problems, told(problems))
	switch {
	case cfg == nil && len(f.cases) > 0:
		t.Fatal("the configuration is refused")
	case cfg == nil:
		return
	}
	compare(t, "expects", f.expects, told(app.Expectations(cfg, "config", time.Now())))
	for _, c := range f.cases {
		c.run(t, cfg)
	}
}

// told are problems in the form of the file.
func told(problems []config.Problem) []string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, fmt.Sprintf("%s %d %s", p.Severity, p.Line, strings.TrimPrefix(p.Key+": "+p.Message, ": ")))
		if p.Severity == config.Error && p.Hint == "" {
			lines = append(lines, "error without a hint")
		}
	}
	return lines
}

// compare wants each problem by its words, in order, and no other.
func compare(t *testing.T, what string, want []problem, got []string) {
	t.Helper()
	fits := slices.EqualFunc(want, got, func(p problem, line string) bool {
		rest, ok := strings.CutPrefix(line, p.head+" ")
		return ok && strings.Contains(rest, p.words)
	})
	if !fits {
		t.Errorf("%s:\n got %s\nwant %v", what, strings.Join(got, "\n     "), want)
	}
}

func (c *testCase) run(t *testing.T, cfg *config.Config) {
	e, err := app.Explain(cfg, c.question)
	if err != nil {
		t.Fatalf("line %d: %v", c.line, err)
	}
	rule := e.Rule
	if rule == "" {
		rule = "-"
	}
	if e.Result != c.result || rule != c.rule || c.reason != "" && e.Reason != c.reason {
		t.Errorf("line %d: %s\n got %s %s %s\nwant %s %s %s", c.line, c.text, e.Result, rule, e.Reason, c.result, c.rule, c.reason)
	}
	decided := 0
	for _, step := range e.Rules {
		if step.Decided {
			decided++
		}
		if step.Why == "" {
			t.Errorf("line %d: nothing is said of rule %q", c.line, step.Rule)
		}
	}
	if decided != 1 {
		t.Errorf("line %d: %d rules decide", c.line, decided)
	}
}
