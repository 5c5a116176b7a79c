package main

import (
	"strings"
	"testing"
)

func TestFilter(t *testing.T) {
	tests := []struct {
		name, in, out string
		skipped       string // part of the one skip
	}{
		{
			name: "a passing test is silent",
			in: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: talk\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- PASS: TestA (0.00s)\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t1.2s\n"}
{"Action":"pass","Package":"p"}`,
			out: "ok  \tp\t1.2s\n",
		},
		{
			name: "a failing test tells why",
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:1: other\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: wrong\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- FAIL: TestA (0.00s)\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- PASS: TestB (0.00s)\n"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}`,
			out: "    a_test.go:1: wrong\n--- FAIL: TestA (0.00s)\nFAIL\nFAIL\tp\t0.1s\n",
		},
		{
			name: "a skipped test is a failure",
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: no root\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}`,
			out:     "ok  \tp\t0.1s\n",
			skipped: "p TestA\n    a_test.go:1: no root",
		},
		{
			name: "a package without tests is not skipped",
			in: `{"Action":"output","Package":"p","Output":"?   \tp\t[no test files]\n"}
{"Action":"skip","Package":"p"}`,
			out: "?   \tp\t[no test files]\n",
		},
		{
			name: "a test that a panic cut short",
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"panic: oops\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}`,
			out: "FAIL\tp\t0.1s\npanic: oops\n",
		},
		{
			name: "what is no event, and a build that fails",
			in: `go: downloading x
{"ImportPath":"p","Action":"build-output","Output":"p.go:1: undefined\n"}
{"ImportPath":"p","Action":"build-fail"}`,
			out: "go: downloading x\np.go:1: undefined\n",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			skipped, err := filter(strings.NewReader(test.in), &out)
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != test.out {
				t.Errorf("printed %q, want %q", out.String(), test.out)
			}
			got := strings.Join(skipped, "")
			if (got == "") != (test.skipped == "") || !strings.Contains(got, test.skipped) {
				t.Errorf("skipped %q, want %q", got, test.skipped)
			}
		})
	}
}
