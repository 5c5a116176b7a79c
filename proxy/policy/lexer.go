package policy

// The lexical part of mailboxParser: RFC 5322 section 3.2.

// peek is the next octet, 0 at the end. An octet 0 in the field is no atext and
// no special either, so it ends in a syntax error.
func (p *mailboxParser) peek() byte {
	if p.pos < len(p.in) {
		return p.in[p.pos]
	}
	return 0
}

func (p *mailboxParser) take(c byte) bool {
	if p.pos < len(p.in) && p.in[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

// skip passes by folding white space and comments (CFWS).
func (p *mailboxParser) skip() error {
	for p.pos < len(p.in) {
		switch p.in[p.pos] {
		case ' ', '\t', '\r', '\n':
			p.pos++
		case '(':
			if err := p.comment(); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// comment passes by one comment. Nesting is counted, not recursed into: a
// client chooses the depth.
func (p *mailboxParser) comment() error {
	depth := 0
	for p.pos < len(p.in) {
		c := p.in[p.pos]
		p.pos++
		switch c {
		case '\\':
			p.pos++ // quoted-pair; past the end is caught by the loop
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return nil
			}
		}
	}
	p.pos = len(p.in)
	return errFromSyntax
}

// quotedString puts the content, without quotes, escapes and folding, behind
// the address.
func (p *mailboxParser) quotedString() error {
	for p.pos++; p.pos < len(p.in); p.pos++ {
		c := p.in[p.pos]
		switch {
		case c == '"':
			p.pos++
			return nil
		case c == '\r' || c == '\n':
			continue
		case c == '\\':
			p.pos++
			c = p.peek() // 0 at the end
		}
		if c < ' ' && c != '\t' || c == 0x7f { // obs-qp would allow controls; no honest name has them
			return errFromSyntax
		}
		p.address = append(p.address, c)
	}
	return errFromSyntax
}

// atom puts one behind the address.
func (p *mailboxParser) atom() {
	start := p.pos
	for p.pos < len(p.in) && isAtext(p.in[p.pos]) {
		p.pos++
	}
	p.address = append(p.address, p.in[start:p.pos]...)
}

// domainLiteral = "[" *dtext "]"; white space within is dropped.
func (p *mailboxParser) domainLiteral() error {
	begin := len(p.address)
	for p.pos < len(p.in) {
		c := p.in[p.pos]
		p.pos++
		switch {
		case c == ']':
			p.address = append(p.address, c)
			return p.skip()
		case c == '[' && len(p.address) == begin || c > ' ' && c < 0x7f && c != '[' && c != '\\':
			p.address = append(p.address, c)
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		default:
			return errFromSyntax
		}
	}
	return errFromSyntax
}

// isAtext includes all octets beyond ASCII: RFC 6532 adds UTF-8, and old
// programs write display names in Latin-1. An address must be UTF-8 (see add).
func isAtext(c byte) bool { return atext[c] }

var atext = func() (is [256]bool) {
	for c := range is {
		is[c] = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80
	}
	for _, c := range "!#$%&'*+-/=?^_`{|}~" {
		is[c] = true
	}
	return is
}()

// isDotAtom tells whether a local part needs no quotes.
func isDotAtom[T string | []byte](s T) bool {
	afterDot := true
	for i := range len(s) {
		switch {
		case isAtext(s[i]):
			afterDot = false
		case s[i] == '.' && !afterDot:
			afterDot = true
		default:
			return false
		}
	}
	return !afterDot
}
