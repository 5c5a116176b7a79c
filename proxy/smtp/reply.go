package smtp

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// EnhancedCode is class, subject and detail of RFC 3463; the zero value is none.
type EnhancedCode [3]int

// String gives "5.7.1", or nothing for the zero value.
func (c EnhancedCode) String() string {
	if c == (EnhancedCode{}) {
		return ""
	}
	return strconv.Itoa(c[0]) + "." + strconv.Itoa(c[1]) + "." + strconv.Itoa(c[2])
}

// Reply is one SMTP reply of one or more lines (RFC 5321 section 4.2).
type Reply struct {
	Code     int          // 200 to 599
	Enhanced EnhancedCode // zero where none was sent, and on 3yz
	Lines    []string     // text without codes; at least one on replies that were read
}

// NewReply makes a reply of one line.
func NewReply(code int, enhanced EnhancedCode, text string) Reply {
	return Reply{Code: code, Enhanced: enhanced, Lines: []string{text}}
}

// Positive says 2yz: the command was carried out.
func (r Reply) Positive() bool { return r.Code/100 == 2 }

// Intermediate says 3yz: the server waits for more (data, a SASL response).
func (r Reply) Intermediate() bool { return r.Code/100 == 3 }

// Transient says 4yz: the same command may succeed later.
func (r Reply) Transient() bool { return r.Code/100 == 4 }

// Permanent says 5yz: repeating the command will not help.
func (r Reply) Permanent() bool { return r.Code/100 == 5 }

// Text joins the lines with single spaces.
func (r Reply) Text() string { return strings.Join(r.Lines, " ") }

// String is code, enhanced code and text on one line, for logs.
func (r Reply) String() string {
	if r.Enhanced == (EnhancedCode{}) {
		return fmt.Sprintf("%03d %s", r.Code, r.Text())
	}
	return fmt.Sprintf("%03d %s %s", r.Code, r.Enhanced, r.Text())
}

// AppendTo appends the reply as it goes on the wire. Characters that could
// break the line are replaced by spaces: a reply may quote what a stranger sent.
func (r Reply) AppendTo(dst []byte) []byte {
	if len(r.Lines) == 0 {
		return r.appendLine(dst, "", ' ')
	}
	for i, line := range r.Lines {
		separator := byte('-')
		if i == len(r.Lines)-1 {
			separator = ' '
		}
		dst = r.appendLine(dst, line, separator)
	}
	return dst
}

func (r Reply) appendLine(dst []byte, text string, separator byte) []byte {
	dst = strconv.AppendInt(dst, int64(r.Code), 10)
	dst = append(dst, separator)
	if r.Enhanced != (EnhancedCode{}) {
		for i, n := range r.Enhanced {
			if i > 0 {
				dst = append(dst, '.')
			}
			dst = strconv.AppendInt(dst, int64(n), 10)
		}
		dst = append(dst, ' ')
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c < ' ' || c == 0x7f {
			c = ' '
		}
		dst = append(dst, c)
	}
	return append(dst, '\r', '\n')
}

// Bounds of a reply that we read. RFC 5321 section 4.5.3.1.5 allows 512 octets
// a line; real relays send more, so the line may be longer than that.
const (
	MaxReplyLine  = 2048 // octets, CRLF included
	MaxReplyLines = 128
	MaxReply      = 16 << 10 // octets of text, all lines together
)

// ErrBadReply is a reply that breaks the grammar of RFC 5321 section 4.2 or our bounds.
var ErrBadReply = errors.New("malformed reply")

// ReadReply reads one reply, all its lines. An error that is not ErrBadReply
// comes from the source; io.EOF before the first octet stays io.EOF.
func ReadReply(r *Reader) (Reply, error) {
	var reply Reply
	size := 0
	for n := 0; ; n++ {
		if n == MaxReplyLines {
			return Reply{}, fmt.Errorf("%w: more than %d lines", ErrBadReply, MaxReplyLines)
		}
		line, err := r.Line(MaxReplyLine)
		if err != nil {
			return Reply{}, replyLineError(err, n)
		}
		code, last, text, ok := splitReplyLine(line)
		if !ok || (n > 0 && code != reply.Code) {
			return Reply{}, fmt.Errorf("%w: %.60q", ErrBadReply, line)
		}
		if size += len(text); size > MaxReply {
			return Reply{}, fmt.Errorf("%w: more than %d octets", ErrBadReply, MaxReply)
		}
		reply.Code = code
		reply.addLine(text)
		if last {
			return reply, nil
		}
	}
}

func replyLineError(err error, line int) error {
	var syntax *LineError
	if errors.As(err, &syntax) {
		return fmt.Errorf("%w: %w", ErrBadReply, err)
	}
	if err == io.EOF && line > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// addLine takes the enhanced code of the first line and strips the same code
// from each line (RFC 2034 section 4: it stands on all of them).
func (r *Reply) addLine(text string) {
	code, rest, ok := cutEnhanced(text, r.Code/100)
	switch {
	case !ok:
	case len(r.Lines) == 0:
		r.Enhanced, text = code, rest
	case code == r.Enhanced:
		text = rest
	}
	r.Lines = append(r.Lines, text)
}

// splitReplyLine takes "250-text" apart. A code alone on its line is legal
// (RFC 5321 section 4.2, "SHOULD" have a space).
func splitReplyLine(line []byte) (code int, last bool, text string, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !digit(line[1]) || !digit(line[2]) {
		return 0, false, "", false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	switch {
	case len(line) == 3:
		return code, true, "", true
	case line[3] == ' ':
		return code, true, string(line[4:]), true
	case line[3] == '-':
		return code, false, string(line[4:]), true
	}
	return 0, false, "", false
}

// cutEnhanced takes "5.7.1 text" apart if its class is the reply's.
func cutEnhanced(text string, class int) (EnhancedCode, string, bool) {
	word, rest, _ := strings.Cut(text, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 {
		return EnhancedCode{}, text, false
	}
	var code EnhancedCode
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || len(part) > 3 {
			return EnhancedCode{}, text, false
		}
		code[i] = int(n)
	}
	return code, rest, code[0] == class
}

func digit(c byte) bool { return '0' <= c && c <= '9' }
