package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/smtpwall/smtpwall/"

// mayImport is who may import whom; docs/architecture.md says why. A room that
// is not in it may not exist.
var mayImport = map[string][]string{
	"cmd/smtpwall": {"certs", "certs/trust", "internal/admin", "internal/app", "internal/config", "internal/demo", "internal/guard", "internal/plan", "proxy/audit", "proxy/auth",
		"proxy/limit", "proxy/policy", "proxy/relay", "proxy/smtp", "proxy/spool", "rules/nft", "systemd"},
	"internal/app": {"certs", "certs/dns01", "certs/lookup", "internal/admin", "internal/alert", "internal/config", "internal/durable", "internal/guard", "proxy", "proxy/audit", "proxy/auth",
		"proxy/breaker", "proxy/filter", "proxy/limit", "proxy/peer", "proxy/policy", "proxy/queue", "proxy/relay", "proxy/spool", "rules", "rules/nft", "systemd"},
	"internal/admin":           {"proxy/limit", "proxy/relay", "proxy/spool"},
	"internal/alert":           {"internal/program"},
	"internal/plan":            {"proxy/audit"},
	"internal/program":         {"internal/trail"},
	"internal/guard":           {"internal/durable", "proxy/audit", "proxy/peer", "rules", "rules/nft"},
	"internal/config":          {"internal/trail"},
	"internal/config/generate": {"internal/config"},
	"internal/demo":            {"internal/lab", "proxy/audit", "proxy/auth"},
	"internal/lab":             {},
	"internal/trail":           {},
	"internal/durable":         {},
	"internal/durable/simdisk": {"internal/durable"},
	"internal/logfields":       {},
	"internal/testkit":         {},
	"internal/testkit/pebble":  {},
	"proxy": {"proxy/audit", "proxy/auth", "proxy/breaker", "proxy/dsn", "proxy/filter", "proxy/limit", "proxy/peer", "proxy/policy", "proxy/queue", "proxy/relay",
		"proxy/smtp", "proxy/spool"},
	"proxy/limit":   {},
	"proxy/breaker": {},
	"proxy/filter":  {"proxy/smtp"},
	"proxy/smtp":    {},
	"proxy/dsn":     {"proxy/smtp"},
	"proxy/queue":   {},
	"proxy/peer":    {},
	"proxy/auth":    {},
	"proxy/policy":  {},
	"proxy/relay":   {"proxy/smtp"},
	"proxy/spool":   {"proxy/smtp", "internal/durable"},
	"proxy/audit":   {},
	"rules":         {},
	"rules/nft":     {"rules"},
	"certs":         {"certs/dns01", "internal/durable"},
	"certs/dns01":   {"internal/program"},
	"certs/lookup":  {},
	"certs/trust":   {"internal/durable", "internal/trail"},
	"systemd":       {},
}

// sole is who alone may import a library.
var sole = map[string]string{
	"github.com/google/nftables":       "rules/nft",
	"github.com/caddyserver/certmagic": "certs",
	"github.com/pelletier/go-toml/v2":  "internal/config",
	"go.etcd.io/bbolt":                 "proxy/limit",
	"github.com/emersion/go-milter":    "proxy/filter",
}

// stdOnly are the rooms that need nothing but the standard library.
var stdOnly = []string{"proxy/smtp", "rules"}

func TestRooms(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		room := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), "../"))
		if entry.IsDir() && (entry.Name() == "test" || entry.Name() == "testdata" || entry.Name() == ".git") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		seen[room] = true
		checkImports(t, room, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for room := range mayImport {
		if !seen[room] {
			t.Errorf("room %s has no code", room)
		}
	}
}

func checkImports(t *testing.T, room, path string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	allowed, known := mayImport[room]
	if !known {
		t.Errorf("%s: room %q is not in the house; add it here and to docs/architecture.md", path, room)
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		checkImport(t, room, path, imported, allowed)
	}
}

func checkImport(t *testing.T, room, path, imported string, allowed []string) {
	t.Helper()
	if own, ok := strings.CutPrefix(imported, module); ok {
		if own != "internal/logfields" && !slices.Contains(allowed, own) {
			t.Errorf("%s: %s may not import %s", path, room, own)
		}
		return
	}
	for library, only := range sole {
		if (imported == library || strings.HasPrefix(imported, library+"/")) && room != only {
			t.Errorf("%s: only %s imports %s", path, only, library)
		}
	}
	if slices.Contains(stdOnly, room) && strings.Contains(strings.Split(imported, "/")[0], ".") {
		t.Errorf("%s: %s needs nothing but the standard library, not %s", path, room, imported)
	}
}
