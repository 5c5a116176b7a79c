package filter

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-milter"
)

// section is a header section taken apart into its fields.
type section struct {
	fields []field
	// rest is what follows the last field: the empty line, or nothing, or
	// everything from the first line that is no field.
	rest []byte
}

// field is one field as it stands in the message.
type field struct {
	name string // as written, without white space before the colon
	raw  []byte // folded lines and CRLF included
}

// parseSection takes a header section apart. A line that is no field ends the
// fields, as mail programs do that see the body begin there: what hides behind
// such a line must not hide from a filter.
func parseSection(header []byte) section {
	var s section
	for len(header) > 0 {
		length := fieldLength(header)
		raw := header[:length:length]
		name, ok := fieldName(raw)
		if !ok {
			break
		}
		header = header[len(raw):]
		if raw[len(raw)-1] != '\n' { // the last octets of a message that ends here
			raw = append(raw, "\r\n"...)
		}
		s.fields = append(s.fields, field{name: name, raw: raw})
	}
	s.rest = header
	return s
}

// fieldLength is the length of the first line and those folded under it.
func fieldLength(p []byte) int {
	end := 0
	for {
		i := bytes.IndexByte(p[end:], '\n')
		if i < 0 {
			return len(p)
		}
		end += i + 1
		if end == len(p) || p[end] != ' ' && p[end] != '\t' {
			return end
		}
	}
}

// fieldName is the name of a field (RFC 5322 section 3.6.8); white space before
// the colon is obsolete and allowed (section 4.5.8).
func fieldName(line []byte) (string, bool) {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return "", false
	}
	name := string(bytes.TrimRight(line[:colon], " \t"))
	return name, validName(name)
}

func validName(name string) bool {
	for i := 0; i < len(name); i++ {
		if c := name[i]; c <= ' ' || c > '~' || c == ':' {
			return false
		}
	}
	return name != ""
}

// hidden is the part of rest that a filter must see as the body's beginning.
func (s *section) hidden() []byte {
	if len(s.rest) == 0 || string(s.rest) == "\r\n" {
		return nil
	}
	return s.rest
}

// bytes puts the section together again. A new body needs a plain end; fields
// that came to a message without any end need one too.
func (s *section) bytes(newBody bool) []byte {
	var out []byte
	for _, f := range s.fields {
		out = append(out, f.raw...)
	}
	if newBody || len(s.rest) == 0 {
		return append(out, "\r\n"...)
	}
	return append(out, s.rest...)
}

// value is what a filter is told of a field: lines end in LF, as sendmail and
// Postfix tell it, and NUL, which ends a string in the protocol, is a space.
// Without leading the one space after the colon belongs to the colon.
func (f *field) value(leading bool) string {
	_, value, _ := strings.Cut(string(f.raw), ":")
	value = strings.TrimSuffix(value, "\r\n")
	if !leading && value != "" && (value[0] == ' ' || value[0] == '\t') {
		value = value[1:]
	}
	return strings.ReplaceAll(strings.ReplaceAll(value, "\r\n", "\n"), "\x00", " ")
}

var errField = errors.New("field of the filter is no field")

// newField makes a field of what a filter says. Each line after the first must
// be folded: nothing can begin another field, or the body.
func newField(name, value string, leading bool) (field, error) {
	if !validName(name) {
		return field{}, fmt.Errorf("%w: name %.40q", errField, name)
	}
	value = strings.TrimRight(strings.ReplaceAll(value, "\r\n", "\n"), "\n")
	if strings.ContainsAny(value, "\r\x00") {
		return field{}, fmt.Errorf("%w: bare CR or NUL in %s", errField, name)
	}
	raw := []byte(name + ":")
	if !leading {
		raw = append(raw, ' ')
	}
	for i, line := range strings.Split(value, "\n") {
		switch {
		case i == 0:
			raw = append(raw, line...)
			continue
		case line == "" || line[0] != ' ' && line[0] != '\t':
			return field{}, fmt.Errorf("%w: line of %s that is not folded", errField, name)
		case strings.Trim(line, " \t") == "":
			continue // obsolete, and taken for the end of the section by some
		}
		raw = append(append(raw, "\r\n"...), line...)
	}
	return field{name: name, raw: append(raw, "\r\n"...)}, nil
}

// add is a field at the end.
func (s *section) add(f field) { s.fields = append(s.fields, f) }

// insert is a field before the one at index, from 0; beyond the last it is added.
func (s *section) insert(index uint32, f field) {
	at := min(int64(index), int64(len(s.fields)))
	s.fields = slices.Insert(s.fields, int(at), f)
}

// change replaces the field of that name at index, from 1, among those that are
// there now, as Postfix counts. One that is not there is added.
func (s *section) change(index uint32, f field) {
	if at := s.find(index, f.name); at >= 0 {
		s.fields[at] = f
		return
	}
	s.add(f)
}

// remove takes a field away and says whether it was there.
func (s *section) remove(index uint32, name string) bool {
	at := s.find(index, name)
	if at < 0 {
		return false
	}
	s.fields = slices.Delete(s.fields, at, at+1)
	return true
}

func (s *section) find(index uint32, name string) int {
	for i, f := range s.fields {
		if !strings.EqualFold(f.name, name) {
			continue
		}
		if index <= 1 {
			return i
		}
		index--
	}
	return -1
}

// apply makes a filter's change of the section, and says whether it was one.
func (s *section) apply(change *milter.ModifyAction, leading bool) (bool, error) {
	if change.Code == milter.ActChangeHeader && change.HeaderValue == "" {
		return s.remove(change.HeaderIndex, change.HeaderName), nil
	}
	f, err := newField(change.HeaderName, change.HeaderValue, leading)
	if err != nil {
		return false, err
	}
	switch change.Code {
	case milter.ActInsertHeader:
		s.insert(change.HeaderIndex, f)
	case milter.ActChangeHeader:
		s.change(change.HeaderIndex, f)
	case milter.ActAddHeader:
		s.add(f)
	default:
		return false, fmt.Errorf("%w: change of kind %q", errProtocol, byte(change.Code))
	}
	return true, nil
}

// tooLong gives the name of a field that a filter cannot be told of. Its sender
// must not choose by it to go unfiltered, nor to be tried for ever.
func (s *section) tooLong() (name string, bad bool) {
	for _, f := range s.fields {
		if len(f.raw) > maxFieldSize {
			return printable(f.name, 80), true
		}
	}
	return "", false
}
