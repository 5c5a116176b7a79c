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
	in      []byte
	pos     int
	address []byte // being made; its local part is the latest words
	out     []string
}

// addressList = *(address ","), with empty members as section 4.4 allows.
func (p *mailboxParser) addressList() error {
	for {
		if err := p.member(false); err != nil {
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

// member = mailbox / group / nothing. What a run of words is shows in what
// follows it.
func (p *mailboxParser) member(inGroup bool) error {
	run, err := p.words()
	if err != nil {
		return err
	}
	switch {
	case p.take('<'):
		return p.angleAddress()
	case p.take('@'):
		return p.addrSpec(run)
	case !inGroup && run.count > 0 && p.take(':'):
		return p.group()
	case run.count == 0:
		return nil
	}
	return p.unqualified(run)
}

// group = display-name ":" [group-list] ";", in From since RFC 6854.
func (p *mailboxParser) group() error {
	for {
		if err := p.member(true); err != nil {
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
			if err := p.domain(); err != nil {
				return err
			}
		default:
			return errFromSyntax
		}
	}
	return nil
}

// addrSpec reads the domain after "@" and adds the address.
func (p *mailboxParser) addrSpec(local run) error {
	if err := p.localPart(local); err != nil {
		return err
	}
	p.address = append(p.address, '@')
	if err := p.domain(); err != nil {
		return err
	}
	return p.add()
}

// unqualified adds a local part that stands alone, as programs on the host
// write it ("From: root").
func (p *mailboxParser) unqualified(local run) error {
	if err := p.localPart(local); err != nil {
		return err
	}
	return p.add()
}

func (p *mailboxParser) add() error {
	if len(p.out) >= maxFromAddresses || len(p.address) > maxAddress {
		return errFromTooLong
	}
	if !utf8.Valid(p.address) { // RFC 6532 section 3.2
		return errFromSyntax
	}
	p.out = append(p.out, string(p.address))
	return nil
}

// run is words in a row: atoms, quoted strings and dots.
type run struct {
	count int
	apart bool // there is not one dot between each two of the others
}

// words reads a run up to anything else: a display name or a local part. As
// which it begins the address, without quotes and escapes.
func (p *mailboxParser) words() (r run, err error) {
	p.address = p.address[:0]
	for ; ; r.count++ {
		if err := p.skip(); err != nil {
			return r, err
		}
		c := p.peek()
		switch {
		case c == '.':
			p.pos++
			p.address = append(p.address, '.')
		case c == '"':
			if err := p.quotedString(); err != nil {
				return r, err
			}
		case isAtext(c):
			p.atom()
		default:
			return r, nil
		}
		r.apart = r.apart || (c == '.') != (r.count%2 == 1)
	}
}

// localPart = word *("." word), which is obs-local-part and holds dot-atom and
// quoted-string. It is quoted in the result only where it has to be.
func (p *mailboxParser) localPart(r run) error {
	if r.apart || r.count%2 == 0 {
		return errFromSyntax
	}
	if !isDotAtom(p.address) {
		p.address = []byte(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(string(p.address)) + `"`)
	}
	return nil
}

// domain = atom *("." atom) / domain-literal. It is put behind the address.
func (p *mailboxParser) domain() error {
	if err := p.skip(); err != nil {
		return err
	}
	if p.peek() == '[' {
		return p.domainLiteral()
	}
	for {
		if err := p.skip(); err != nil {
			return err
		}
		if !isAtext(p.peek()) {
			return errFromSyntax
		}
		p.atom()
		if err := p.skip(); err != nil {
			return err
		}
		if !p.take('.') {
			return nil
		}
		p.address = append(p.address, '.')
	}
}
