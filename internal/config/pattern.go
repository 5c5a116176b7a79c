package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// checkName accepts a name of our own making: of a relay or a rule.
func checkName(name string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	if name == "" || len(name) > 64 || strings.Trim(name, allowed) != "" {
		return flaw{fmt.Sprintf("%q is not a name", name),
			"write 1 to 64 letters, digits, hyphens, dots or underscores"}
	}
	return nil
}

// checkAccountName accepts an authentication identity, RFC 4616 section 2.
func checkAccountName(name string) error {
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return flaw{"the name is empty, too long or holds a character that does not print", "write 1 to 255 characters"}
	}
	return nil
}

// checkUsername accepts the name for a relay.
func checkUsername(name string) error { return checkAccountName(name) }

// checkPattern accepts a pattern for one attribute of an identity.
func checkPattern(pattern string) error {
	if pattern == "" || strings.ContainsFunc(pattern, unicode.IsControl) {
		return flaw{fmt.Sprintf("%q matches nobody", pattern), `write a name, or "*" for any`}
	}
	return nil
}

// checkAddressPattern accepts a pattern for mail addresses.
func checkAddressPattern(pattern string) error {
	if err := checkPattern(pattern); err != nil {
		return err
	}
	switch {
	case pattern == "*":
		return nil
	case pattern == "<>":
		return flaw{`"<>" is the null reverse-path, and never a recipient`, "remove it"}
	case strings.HasPrefix(pattern, "@"):
		return flaw{fmt.Sprintf("%q matches no address", pattern), "write " + quote("*"+pattern)}
	case !strings.Contains(pattern, "@"):
		return flaw{fmt.Sprintf("%q is not a pattern for addresses: it has no @", pattern),
			"write " + quote("*@"+pattern) + " for a domain, or \"*\" for any address"}
	case strings.HasSuffix(pattern, "@") || strings.ContainsAny(pattern, "<> "):
		return flaw{fmt.Sprintf("%q matches no address", pattern), `write "user@example.com" or "*@example.com"`}
	}
	return checkDomainPattern(pattern[strings.LastIndexByte(pattern, '@')+1:])
}

// checkMailbox accepts a mailbox that every relay takes: RFC 5321 section 4.1.2
// without quoted strings, address literals and what needs SMTPUTF8.
func checkMailbox(mailbox string) error {
	at := strings.LastIndexByte(mailbox, '@')
	local, domain := mailbox[:max(at, 0)], mailbox[at+1:]
	if len(mailbox) > 254 || len(local) > 64 || !isDotString(local) || checkHostName(domain) != nil {
		return flaw{fmt.Sprintf("%q is not a mailbox", mailbox), `write a name and a domain: "admin@example.com"`}
	}
	return nil
}

// isDotString reports whether text is atoms with a dot between, RFC 5321
// section 4.1.2 and RFC 5322 section 3.2.3.
func isDotString(text string) bool {
	const special = "!#$%&'*+-/=?^_`{|}~."
	for _, c := range []byte(text) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(special, c) >= 0) {
			return false
		}
	}
	return text != "" && !strings.Contains("."+text+".", "..")
}

// checkSenderPattern also accepts the null reverse-path, RFC 5321 section
// 4.5.5.
func checkSenderPattern(pattern string) error {
	if pattern == "<>" {
		return nil
	}
	return checkAddressPattern(pattern)
}

// checkDomainPattern accepts labels that a domain can have, RFC 5890, with or
// without wildcards, and address literals.
func checkDomainPattern(domain string) error {
	if strings.HasPrefix(domain, "[") {
		return nil
	}
	for _, label := range strings.Split(domain, ".") {
		ascii := !strings.ContainsFunc(label, func(r rune) bool { return r > unicode.MaxASCII })
		if label != "" && (ascii || strings.ContainsAny(label, "*?")) {
			continue
		}
		if _, err := idna.Lookup.ToUnicode(label); label == "" || err != nil {
			return flaw{fmt.Sprintf("%q is not a domain", domain), `write "user@example.com" or "*@example.com"`}
		}
	}
	return nil
}

// checkPlainName accepts the name of one user, group or container.
func checkPlainName(name string) error {
	switch {
	case strings.ContainsAny(name, "*?"):
		return flaw{fmt.Sprintf("%q is a pattern", name), "name one alone here"}
	case name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == '/' || r == ':' }):
		return flaw{fmt.Sprintf("%q is not a name", name), "write it as the host has it"}
	}
	return nil
}

// unitKinds are the kinds of unit that have processes.
var unitKinds = []string{".service", ".scope", ".socket", ".mount", ".swap"}

// checkUnitName accepts the full name of a systemd unit that can have processes,
// systemd.unit(5).
func checkUnitName(name string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@"
	kind := strings.LastIndexByte(name, '.')
	switch {
	case strings.ContainsAny(name, "*?"):
		return flaw{fmt.Sprintf("%q is a pattern", name), "name one unit alone here"}
	case name == "" || len(name) > 255 || strings.Trim(name, allowed) != "":
		return flaw{fmt.Sprintf("%q is not the name of a unit", name), `write it as systemctl shows it: "postfix.service"`}
	case kind <= 0:
		return flaw{fmt.Sprintf("%q is not the full name of a unit", name), "write " + quote(name+".service")}
	case !slices.Contains(unitKinds, name[kind:]):
		return flaw{fmt.Sprintf("%q is no unit that has processes", name), "name a service or a scope"}
	}
	return nil
}

// checkAddress accepts one mail address.
func checkAddress(address string) error {
	if strings.ContainsAny(address, "*?") || checkAddressPattern(address) != nil {
		return flaw{fmt.Sprintf("%q is not an address", address), `write one in full: "shop@example.com"`}
	}
	return nil
}

// parseReversePath reads an address, or "<>" for the null reverse-path, which
// is "".
func parseReversePath(text string) (string, error) {
	if text == "<>" {
		return "", nil
	}
	return text, checkAddress(text)
}

// uidBinding binds one number of a user, with or without quotes.
type uidBinding struct{ into *string }

func (b uidBinding) decode(d *decoder, at place, v *value) {
	if v.kind != kindInteger && v.kind != kindString {
		d.problem(v.line, at.key, flaw{"must be a number, not " + v.kind.String(), "write " + lastPart(at.key) + " = 33"})
		return
	}
	uid, err := parseUID(v.text)
	if err != nil {
		d.problem(v.line, at.key, asFlaw(err))
		return
	}
	*b.into = uid
}

func (b uidBinding) describe() string { return "a number such as 33" }

func (b uidBinding) show() string { return *b.into }

// parseUID reads a user id. The largest number is nobody's: the kernel says
// "none" with it.
func parseUID(text string) (string, error) {
	uid, err := strconv.ParseUint(text, 10, 32)
	if err != nil || uid == math.MaxUint32 {
		return "", flaw{fmt.Sprintf("%q is not a user id", text), "write a number such as 33; names belong to user"}
	}
	return strconv.FormatUint(uid, 10), nil
}
