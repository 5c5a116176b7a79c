package logfields

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"testing"
)

// settled is the list that the vocabulary fixes; scripts and dashboards stand
// on these spellings.
var settled = []string{
	"session", "txn", "listener", "peer_uid", "peer_user", "peer_pid", "peer_exe", "peer_unit",
	"peer_container", "orig_dst", "tls_version", "auth_id", "reverse_path", "rcpt_count", "size", "decision", "reason", "rule",
	"relay", "reply_code", "enhanced_code", "custody", "duration_ms", "error",
}

func TestKeys(t *testing.T) {
	seen := declared(t)
	for _, key := range settled {
		if seen[key] != 1 {
			t.Errorf("key %q is declared %d times, want once", key, seen[key])
		}
	}
	form := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	for key, n := range seen {
		if n != 1 {
			t.Errorf("key %q is declared %d times, want once", key, n)
		}
		if !form.MatchString(key) {
			t.Errorf("key %q is not lower case words joined by underscores", key)
		}
	}
}

// declared counts the value of each constant in fields.go.
func declared(t *testing.T) map[string]int {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "fields.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			value, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			seen[value]++
		}
		return true
	})
	return seen
}
