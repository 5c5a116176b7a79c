package smtp

import "bytes"

// HeaderEnd gives the length of the header section in message octets, the
// empty line that ends it included (RFC 5322 section 2.1), or -1 if it does not
// end in p. The first seen octets were looked at before. A message that starts
// with an empty line has a header section of no fields.
func HeaderEnd(p []byte, seen int) int {
	if bytes.HasPrefix(p, []byte("\r\n")) {
		return 2
	}
	from := max(0, seen-len("\r\n\r"))
	if i := bytes.Index(p[from:], []byte("\r\n\r\n")); i >= 0 {
		return from + i + 4
	}
	return -1
}

// CountField counts the fields of that name (lower case, without colon) in a
// header section, folded lines not counted twice. Trace fields are counted so
// to find loops (RFC 5321 section 6.3).
func CountField(header []byte, name string) int {
	count := 0
	for len(header) > 0 {
		line := header
		if i := bytes.IndexByte(header, '\n'); i >= 0 {
			line, header = header[:i], header[i+1:]
		} else {
			header = nil
		}
		if hasField(line, name) {
			count++
		}
	}
	return count
}

func hasField(line []byte, name string) bool {
	if len(line) <= len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return false
	}
	// obs-optional allows white space before the colon (RFC 5322 section 4.5.8).
	rest := bytes.TrimLeft(line[len(name):], " \t")
	return len(rest) > 0 && rest[0] == ':'
}
