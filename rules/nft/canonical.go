package nft

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

// fingerprint identifies a rule by its expressions, whether we compiled them or
// the kernel lists them. The kernel adds attributes with their default, which is
// zero, so attributes that are zero do not count.
func fingerprint(exprs [][]byte) string {
	parts := make([]string, len(exprs))
	for i, e := range exprs {
		a := readAttrs(e)
		name := a.text(unix.NFTA_EXPR_NAME)
		parts[i] = name + canonical(name, a[unix.NFTA_EXPR_DATA])
	}
	return strings.Join(parts, " ")
}

// fingerprintOf is the fingerprint of a rule of ours.
func fingerprintOf(r rules.Rule) string {
	var exprs [][]byte
	for _, e := range compileRule(r) {
		b, err := expr.Marshal(familyInet, e)
		if err != nil {
			panic(fmt.Sprintf("nft: marshalling rule %q: %v", r, err))
		}
		exprs = append(exprs, b)
	}
	return fingerprint(exprs)
}

// catalogue recognises rules of ours in the kernel's listing. It remembers what
// it has seen, because the same few rules are read every few seconds.
type catalogue struct {
	prints map[string]string     // text of a rule of ours → fingerprint
	byRule map[string]rules.Rule // fingerprint → rule of ours
	listed map[string]rules.Rule // expressions as the kernel lists them → rule of ours
}

// catalogueSize bounds the memory; a configuration has some sixty rules, and
// twenty for each entry of what is allowed.
const catalogueSize = 10_000

// learn makes the rules of a ruleset known.
func (c *catalogue) learn(r rules.Ruleset) {
	if c.prints == nil || len(c.prints) > catalogueSize {
		*c = catalogue{map[string]string{}, map[string]rules.Rule{}, map[string]rules.Rule{}}
	}
	for _, chain := range r.Chains {
		for _, rule := range chain.Rules {
			text := rule.String()
			if _, ok := c.prints[text]; !ok {
				c.prints[text] = fingerprintOf(rule)
				c.byRule[c.prints[text]] = rule
			}
		}
	}
}

// name returns the rule that has these expressions: one of ours, or a
// description of a foreign one.
func (c *catalogue) name(listed []byte) rules.Rule {
	if rule, ok := c.listed[string(listed)]; ok {
		return rule
	}
	exprs := elements(listed)
	rule, ok := c.byRule[fingerprint(exprs)]
	if !ok {
		return describeForeign(exprs)
	}
	c.listed[string(listed)] = rule
	return rule
}

// canonical writes attributes in the order of their numbers, without those that
// are zero. path names the expression, or an attribute nested in it.
func canonical(path string, b []byte) string {
	var out strings.Builder
	a := readAttrs(b)
	out.WriteByte('{')
	for _, kind := range slices.Sorted(maps.Keys(a)) {
		below := fmt.Sprintf("%s.%d", path, kind)
		value := fmt.Sprintf("%x", bytes.TrimRight(a[kind], "\x00"))
		if !isText(below) {
			value = fmt.Sprintf("%x", a[kind])
		}
		if isNested(below) {
			value = canonical(below, a[kind])
		}
		if strings.Trim(value, "0{}") != "" {
			fmt.Fprintf(&out, "%d=%s ", kind, value)
		}
	}
	out.WriteByte('}')
	return out.String()
}

// isNested tells which attributes of our expressions hold others. The kernel
// does not always mark them.
func isNested(path string) bool {
	switch path {
	case "cmp.3", "bitwise.4", "bitwise.5", "immediate.2", "immediate.2.2":
		return true
	}
	return false
}

// isText tells which attributes are sent without and listed with a final zero.
func isText(path string) bool { return path == "objref.2" }

// describeForeign names a rule that is not ours by its expressions.
func describeForeign(exprs [][]byte) rules.Rule {
	names := make([]string, len(exprs))
	for i, e := range exprs {
		names[i] = readAttrs(e).text(unix.NFTA_EXPR_NAME)
	}
	return rules.Rule{rules.Foreign{Description: "rule of " + strings.Join(names, ", ")}}
}
