package policy

import (
	"errors"
	"strings"
	"unicode/utf8"
)

var errFromSyntax = errors.New("From field is not a list of addresses")

// mailboxParser reads one address list (RFC 5322 sections 3.4 and 4.4). Folding
// is white space to it; comments are skipped wherever the grammar allows them.
type mailboxParser struct {
	in  []byte
	pos int
	out []string
}

// addressList = *(address ","), with empty members as section 4.4 allows.
func (p *mailboxParser) addressList() error {
	for {
		if err := p.address(false); err != nil {
			return err
		}
		if p.pos == len(p.in) {
			return nil
		}
		if !p.take(',') {
			return errFromSyntax
		}
	}
}

// address = mailbox / group / nothing. What a run of words is shows in what
// follows it.
func (p *mailboxParser) address(inGroup bool) error {
	run, err := p.words()
	if err != nil {
		return err
	}
	switch {
	case p.take('<'):
		return p.angleAddress()
	case p.take('@'):
		return p.addrSpec(run)
	case !inGroup && len(run) > 0 && p.take(':'):
		return p.group()
	case len(run) == 0:
		return nil
	}
	return p.unqualified(run)
}

// group = display-name ":" [group-list] ";", in From since RFC 6854.
func (p *mailboxParser) group() error {
	for {
		if err := p.address(true); err != nil {
			return err
		}
		if p.take(';') {
			return p.skip()
		}
		if !p.take(',') {
			return errFromSyntax
		}
	}
}

// angleAddress reads what follows "<"; a route before the address is obsolete
// and dropped (RFC 5322 section 4.4).
func (p *mailboxParser) angleAddress() error {
	if err := p.route(); err != nil {
		return err
	}
	local, err := p.words()
	if err != nil {
		return err
	}
	if p.take('@') {
		err = p.addrSpec(local)
	} else {
		err = p.unqualified(local)
	}
	if err != nil {
		return err
	}
	if !p.take('>') {
		return errFromSyntax
	}
	return p.skip()
}

// route = *( "," ) "@" domain *("," ["@" domain]) ":"
func (p *mailboxParser) route() error {
	if err := p.skip(); err != nil {
		return err
	}
	if c := p.peek(); c != '@' && c != ',' {
		return nil
	}
	for !p.take(':') {
		switch {
		case p.take(','):
			if err := p.skip(); err != nil {
				return err
			}
		case p.take('@'):
			if _, err := p.domain(); err != nil {
				return err
			}
		default:
			return errFromSyntax
		}
	}
	return nil
}

// addrSpec reads the domain after "@" and adds the address.
func (p *mailboxParser) addrSpec(local []token) error {
	left, err := localPart(local)
	if err != nil {
		return err
	}
	domain, err := p.domain()
	if err != nil {
		return err
	}
	return p.add(left + "@" + domain)
}

// unqualified adds a local part that stands alone, as programs on the host
// write it ("From: root").
func (p *mailboxParser) unqualified(local []token) error {
	left, err := localPart(local)
	if err != nil {
		return err
	}
	return p.add(left)
}

func (p *mailboxParser) add(address string) error {
	if len(p.out) >= maxFromAddresses || len(address) > maxAddress {
		return errFromTooLong
	}
	if !utf8.ValidString(address) { // RFC 6532 section 3.2
		return errFromSyntax
	}
	p.out = append(p.out, address)
	return nil
}

// token is a word (atom or quoted string) or a dot.
type token struct {
	text   string // of a quoted string: without quotes and escapes
	quoted bool
	dot    bool
}

// words reads atoms, quoted strings and dots up to anything else: a display
// name or a local part.
func (p *mailboxParser) words() ([]token, error) {
	var run []token
	for {
		if err := p.skip(); err != nil {
			return nil, err
		}
		switch c := p.peek(); {
		case c == '.':
			p.pos++
			run = append(run, token{dot: true})
		case c == '"':
			text, err := p.quotedString()
			if err != nil {
				return nil, err
			}
			run = append(run, token{text: text, quoted: true})
		case isAtext(c):
			run = append(run, token{text: p.atom()})
		default:
			return run, nil
		}
	}
}

// localPart = word *("." word), which is obs-local-part and holds dot-atom and
// quoted-string. It is quoted in the result only where it has to be.
func localPart(run []token) (string, error) {
	if len(run)%2 == 0 {
		return "", errFromSyntax
	}
	var b strings.Builder
	for i, t := range run {
		if t.dot != (i%2 == 1) {
			return "", errFromSyntax
		}
		if t.dot {
			b.WriteByte('.')
		}
		b.WriteString(t.text)
	}
	text := b.String()
	if isDotAtom(text) {
		return text, nil
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`, nil
}

// domain = atom *("." atom) / domain-literal
func (p *mailboxParser) domain() (string, error) {
	if err := p.skip(); err != nil {
		return "", err
	}
	if p.peek() == '[' {
		return p.domainLiteral()
	}
	var b strings.Builder
	for {
		if err := p.skip(); err != nil {
			return "", err
		}
		if !isAtext(p.peek()) {
			return "", errFromSyntax
		}
		b.WriteString(p.atom())
		if err := p.skip(); err != nil {
			return "", err
		}
		if !p.take('.') {
			return b.String(), nil
		}
		b.WriteByte('.')
	}
}
