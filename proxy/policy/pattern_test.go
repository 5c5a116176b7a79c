package policy

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		glob       string
		fit, unfit []string
	}{
		{"*", []string{"", "a", "ü"}, nil},
		{"**", []string{"", "a"}, nil},
		{"a", []string{"a"}, []string{"", "aa", "A"}},
		{"a*", []string{"a", "ab"}, []string{"", "ba"}},
		{"*a", []string{"a", "ba"}, []string{"", "ab"}},
		{"a*b", []string{"ab", "axxb", "abab"}, []string{"aba", "a"}},
		{"*a*", []string{"a", "xax"}, []string{"", "x"}},
		{"?", []string{"a", "ü", "€"}, []string{"", "ab"}},
		{"*??", []string{"ab", "üé", "xyz"}, []string{"", "a", "ü"}},
		{"a*b*c", []string{"abc", "axbxc", "abcbc"}, []string{"acb", "ab"}},
		{"[a]", []string{"[a]"}, []string{"a"}},
	} {
		p := newPattern(c.glob)
		for _, s := range c.fit {
			if !p.fit(s) {
				t.Errorf("%q does not fit %q", s, c.glob)
			}
		}
		for _, s := range c.unfit {
			if p.fit(s) {
				t.Errorf("%q fits %q", s, c.glob)
			}
		}
	}
}

func TestPatternCost(t *testing.T) {
	p := newPattern(strings.Repeat("*a", 100) + "*b")
	start := time.Now()
	if p.fit(strings.Repeat("a", 1000)) {
		t.Error("fits")
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
}

// FuzzPattern compares with the same pattern as a regular expression.
func FuzzPattern(f *testing.F) {
	f.Add("a*b?c", "axbyc")
	f.Add("*ü?", "xüy")
	f.Fuzz(func(t *testing.T, glob, s string) {
		if !utf8.ValidString(glob) || !utf8.ValidString(s) || len(glob) > 50 || len(s) > 200 {
			return
		}
		quoted := regexp.QuoteMeta(glob)
		quoted = strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(quoted)
		want := regexp.MustCompile(`(?s)\A(?:` + quoted + `)\z`).MatchString(s)
		if p := newPattern(glob); p.fit(s) != want {
			t.Errorf("pattern %q on %q: %v, the regular expression says %v", glob, s, p.fit(s), want)
		}
	})
}

// One address has one form, whoever writes it.
func TestCanonical(t *testing.T) {
	for _, same := range [][]string{
		{"shop@example.com", "Shop@Example.COM", `"shop"@example.com`, `"SHOP"@EXAMPLE.com`},
		{"a@b\u00fccher.example", "A@xn--bcher-kva.example", "a@B\u00dcCHER.Example"},
		{"", ""}, {"postmaster", "Postmaster"},
	} {
		for _, address := range same {
			if got := Canonical(address); got != same[0] {
				t.Errorf("%q: %q, want %q", address, got, same[0])
			}
		}
	}
}
