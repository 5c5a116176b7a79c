package config

import (
	"bytes"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestDocuments fails when a committed document is not what the fields say.
func TestDocuments(t *testing.T) {
	for path, write := range map[string]func(io.Writer) error{
		"../../docs/man/smtpwall.toml.5": WriteManual,
		"../../packaging/smtpwall.toml":  WriteExample,
	} {
		var want bytes.Buffer
		if err := write(&want); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s is out of date: run go generate ./internal/config", path)
		}
	}
}

// example returns the installed configuration.
func example(t *testing.T) string {
	var text strings.Builder
	if err := WriteExample(&text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestExampleIsTheDefault parses the installed file, which must say what an
// empty one says, in ten lines at most.
func TestExampleIsTheDefault(t *testing.T) {
	config, problems := Parse("smtpwall.toml", []byte(example(t)), Options{})
	if len(problems) > 0 {
		t.Fatal(show(problems))
	}
	want := Default()
	want.ModeStated = true // it says the mode, for people to change it
	if !reflect.DeepEqual(config, want) {
		t.Errorf("got %+v\nwant %+v", config, want)
	}
	active := regexp.MustCompile(`(?m)^[^#\n].*$`).FindAllString(example(t), -1)
	if len(active) > 10 {
		t.Errorf("%d active lines:\n%s", len(active), strings.Join(active, "\n"))
	}
}

// TestExampleUncommented takes every # away: each key must stand in its own
// table, with a value of its own kind. No file can have all keys of
// [certificates], so some are left out, others each time.
func TestExampleUncommented(t *testing.T) {
	acme := []string{"certificate", "key"}
	for source, without := range map[string][]string{
		`source = "files"`: {"names", "email", "directory", "ca", "eab_key_id", "eab_key", "preferred_chain", "profile",
			"challenge", "http_port", "tls_alpn_port", "web_root", "hook", "ca_names"},
		"source = \"acme\"\nchallenge = \"http-01\"":     append([]string{"challenge", "http_port", "tls_alpn_port", "hook"}, acme...),
		"source = \"acme\"\nchallenge = \"tls-alpn-01\"": append([]string{"challenge", "http_port", "web_root", "hook"}, acme...),
		"source = \"acme\"\nchallenge = \"dns-01\"":      append([]string{"challenge", "http_port", "tls_alpn_port", "web_root", "hook"}, acme...),
	} {
		text := regexp.MustCompile(`(?m)^#(\S)`).ReplaceAllString(example(t), "$1")
		before, table, _ := strings.Cut(text, "\n[certificates]\n")
		table, after, _ := strings.Cut(table, "\n[")
		for _, key := range without {
			table = regexp.MustCompile(`(?m)^`+key+` = .*$`).ReplaceAllString(table, "")
		}
		if !strings.Contains(source, "dns-01") {
			_, after, _ = strings.Cut(after, "\n[")
		}
		if !strings.Contains(source, "acme") {
			_, after, _ = strings.Cut(after, "\n[")
		}
		table = strings.Replace(table, `source = "local"`, source, 1)
		exampleIsValid(t, before+"\n[certificates]\n"+table+"\n["+after)
	}
}

func exampleIsValid(t *testing.T, text string) {
	t.Helper()
	text = strings.NewReplacer(
		`"$argon2id$…"`, `"$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG"`,
		`"SCRAM-SHA-256$…"`, `"SCRAM-SHA-256$4096:c29tZXNhbHQ=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="`,
		`"sha256:…"`, `"sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="`,
	).Replace(text)
	config, problems := Parse("smtpwall.toml", []byte(text), Options{SkipSecrets: true})
	if len(problems) > 0 {
		t.Fatalf("%s\n%s", show(problems), text)
	}
	tables := []int{len(config.Relays), len(config.Firewall.Allow), len(config.Accounts), len(config.Policy.Rules), len(config.Expects), len(config.Filters), len(config.Alerts)}
	if slices.ContainsFunc(tables, func(n int) bool { return n != 1 }) {
		t.Errorf("got %+v", config)
	}
}

// TestProseIsValid parses the configurations that people copy: those of the
// README, of the documents and of the manual page.
func TestProseIsValid(t *testing.T) {
	texts := map[string]string{}
	for _, name := range []string{"README.md", "docs/certificates.md"} {
		document, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(document), -1) {
			texts[name+" block "+strconv.Itoa(i+1)] = block[1]
		}
	}
	for _, part := range manualEnd {
		if shown := regexp.MustCompile(`(?m)^  (.*)$`).FindAllStringSubmatch(part.text, -1); part.title == "EXAMPLE" {
			for _, line := range shown {
				texts[part.title] += line[1] + "\n"
			}
		}
	}
	if len(texts) < 2 {
		t.Fatalf("only %d texts", len(texts))
	}
	for name, text := range texts {
		if _, problems := Parse(name, []byte(text), Options{SkipSecrets: true}); len(problems) > 0 {
			t.Errorf("%s\n%s", show(problems), text)
		}
	}
}

// TestEverythingIsDocumented wants a sentence for each key and each table that
// can be used.
func TestEverythingIsDocumented(t *testing.T) {
	sentence := regexp.MustCompile(`^[A-Z].*\.$`)
	for _, s := range flatten(schema(Default())) {
		if s.later == "" && s.name != "" && !sentence.MatchString(s.doc) {
			t.Errorf("%s: no sentence: %q", s.header(), s.doc)
		}
		for _, f := range s.fields {
			documented(t, s.name, f, sentence)
		}
	}
}

func documented(t *testing.T, table string, f field, sentence *regexp.Regexp) {
	if _, hidden := f.binding.(later); hidden {
		return
	}
	if !sentence.MatchString(f.doc) {
		t.Errorf("%s.%s: no sentence: %q", table, f.name, f.doc)
	}
	for _, o := range optionsOf(f.binding) {
		if !o.later && o.doc == "" {
			t.Errorf("%s.%s: %q is not explained", table, f.name, o.word)
		}
	}
	if g, ok := f.binding.(group); ok {
		for _, inner := range g.fields {
			documented(t, table+"."+f.name, inner, sentence)
		}
	}
}

func optionsOf(b binding) []option {
	if c, ok := b.(chooser); ok {
		return c.choices()
	}
	return nil
}
