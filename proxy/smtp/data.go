package smtp

import "bytes"

// Decoder takes the transparency of DATA (RFC 5321 section 4.5.2) off, in
// place, and finds the end of the data. The zero value stands at the start of
// a message.
//
// It is strict: CRLF alone ends a line and CRLF.CRLF alone ends the data. A
// lenient reader here, behind or in front of a strict one, is what SMTP
// smuggling lives on.
type Decoder struct {
	inLine bool // the next octet is not the first of its line
}

// Decode works on octets as they were read. What belongs to the message is
// left in p[:n]; p[:used] is done with. What follows used must be presented
// again with more behind it or, after done, belongs to the next command. The
// error is ErrBareCR or ErrBareLF, after which the stream cannot be trusted.
func (d *Decoder) Decode(p []byte) (n, used int, done bool, err error) {
	var i, segment, lines int // p[segment:i] is decoded and not yet moved down to p[n:]
	var length int            // of the line before
	even := true              // lines may be of one length
	for i < len(p) && !done {
		if !d.inLine && p[i] == '.' {
			kind := classifyDot(p[i:])
			if kind == dotUndecided {
				break
			}
			if kind == dotBroken {
				return 0, 0, false, dotError(p[i:])
			}
			n += move(p, n, segment, i)
			if kind == dotEnd {
				i += len(".\r\n")
				segment, done = i, true
				break
			}
			i++ // transparency: the first dot of a longer line goes
			segment, d.inLine = i, true
		}
		lf := bytes.IndexByte(p[i:], '\n')
		if lf < 0 {
			i = d.partialLine(p, i)
			break
		}
		// A CR is never consumed without what follows it, so an LF in front
		// has none before it.
		if lf == 0 || p[i+lf-1] != '\r' {
			return 0, 0, false, ErrBareLF
		}
		i += lf + 1
		lines++
		d.inLine = false
		if lf+1 == length && even {
			var same int
			same, even = linesLike(p[i:], length)
			i += same * length
			lines += same
		}
		length = lf + 1
	}
	n += move(p, n, segment, i)
	if bytes.Count(p[:n], crByte) != lines {
		return 0, 0, false, ErrBareCR
	}
	return n, i, done, nil
}

// linesLike counts the whole lines at the start of p that have this length,
// their CRLF included, as the lines of an attachment have, and do not begin with
// a dot. It looks at their ends alone and then counts whether there are others:
// some times faster than looking for each. If there are others it says so, and is
// not to be asked again: nobody shall make us count the same octets many times.
func linesLike(p []byte, length int) (lines int, alone bool) {
	end := 0
	for end+length <= len(p) && p[end+length-1] == '\n' && p[end+length-2] == '\r' && p[end] != '.' {
		end += length
		lines++
	}
	if lines > 0 && bytes.Count(p[:end], lfByte) != lines {
		return 0, false
	}
	return lines, true
}

// partialLine consumes what there is of a line without its end, but for a last
// CR, whose LF must be seen with it.
func (d *Decoder) partialLine(p []byte, i int) int {
	end := len(p)
	if p[end-1] == '\r' {
		end--
	}
	if end > i {
		d.inLine = true
		return end
	}
	return i
}

// move brings p[from:to] down to p[n:] and gives its length.
func move(p []byte, n, from, to int) int {
	if n == from {
		return to - from
	}
	return copy(p[n:], p[from:to])
}

type dotKind uint8

const (
	dotUndecided dotKind = iota // more octets are needed
	dotEnd                      // .CRLF
	dotStuffed                  // a dot, then something else
	dotBroken                   // a dot, then a bare CR or LF
)

// classifyDot looks at a line that starts with a dot.
func classifyDot(p []byte) dotKind {
	switch {
	case len(p) == 1, len(p) == 2 && p[1] == '\r':
		return dotUndecided
	case p[1] == '\n', p[1] == '\r' && p[2] != '\n':
		return dotBroken
	case p[1] == '\r':
		return dotEnd
	}
	return dotStuffed
}

func dotError(p []byte) error {
	if p[1] == '\n' {
		return ErrBareLF
	}
	return ErrBareCR
}

var (
	crByte  = []byte{'\r'}
	lfByte  = []byte{'\n'}
	lineDot = []byte("\n.")
)

// AppendStuffed appends message octets with transparency put on (RFC 5321
// section 4.5.2). lineStart says that p begins a line.
func AppendStuffed(dst, p []byte, lineStart bool) []byte {
	if lineStart && len(p) > 0 && p[0] == '.' {
		dst = append(dst, '.')
	}
	for {
		i := bytes.Index(p, lineDot)
		if i < 0 {
			return append(dst, p...)
		}
		dst = append(dst, p[:i+2]...)
		dst = append(dst, '.')
		p = p[i+2:]
	}
}

// LineChecker holds data that came by BDAT (RFC 3030) to the same line
// discipline as DATA: without BINARYMIME its lines too end in CRLF alone.
type LineChecker struct{ cr bool }

// Check looks at the next octets of the message. The error is ErrBareCR or ErrBareLF.
func (c *LineChecker) Check(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if c.cr && p[0] != '\n' {
		return ErrBareCR
	}
	lines, previous := 0, c.cr
	for i := 0; ; {
		lf := bytes.IndexByte(p[i:], '\n')
		if lf < 0 {
			break
		}
		i += lf
		if i > 0 && p[i-1] != '\r' || i == 0 && !previous {
			return ErrBareLF
		}
		lines++
		i++
	}
	crs := bytes.Count(p, crByte)
	if previous {
		crs++
	}
	if c.cr = p[len(p)-1] == '\r'; c.cr {
		crs--
	}
	if crs != lines {
		return ErrBareCR
	}
	return nil
}

// End says whether the message may end here.
func (c *LineChecker) End() error {
	if c.cr {
		return ErrBareCR
	}
	return nil
}
