package smtp

import (
	"bytes"
	"errors"
	"io"
)

// LineError is a line that the strict wire refuses.
type LineError struct{ reason string }

func (e *LineError) Error() string { return e.reason }

// What can be wrong with a line.
var (
	ErrBareCR  = &LineError{"bare CR"}          // RFC 5321 section 2.3.8
	ErrBareLF  = &LineError{"bare LF"}          // RFC 5321 section 2.3.8
	ErrTooLong = &LineError{"line too long"}    // RFC 5321 section 4.5.3.1
	ErrEndless = &LineError{"line without end"} // one that is too long by far
)

var errNoProgress = errors.New("reader returned no data and no error")

// Reader reads lines and data from a source through one buffer that its owner
// lends it. A larger buffer can be lent for the data phase and taken back; a
// line that is longer than the buffer and still allowed makes it grow.
type Reader struct {
	src  io.Reader
	buf  []byte
	r, w int // the unread octets are buf[r:w]
}

// NewReader reads src through buf.
func NewReader(src io.Reader, buf []byte) *Reader { return &Reader{src: src, buf: buf} }

// Reset drops what is buffered and reads from src from now on. It is how
// nothing that was read before a TLS handshake survives it (RFC 3207 section 4.2).
func (r *Reader) Reset(src io.Reader) { r.src, r.r, r.w = src, 0, 0 }

// Unread is what was read from the source and not consumed. It is valid until
// the next call of Fill, Line, Lend or Reset.
func (r *Reader) Unread() []byte { return r.buf[r.r:r.w] }

// Consume drops n octets of Unread.
func (r *Reader) Consume(n int) {
	r.r += n
	if r.r == r.w {
		r.r, r.w = 0, 0
	}
}

// Lend makes buf the buffer and gives back the one used until now. It returns
// buf itself, unused, if the unread octets do not fit in it.
func (r *Reader) Lend(buf []byte) (returned []byte) {
	if r.w-r.r > len(buf) {
		return buf
	}
	n := copy(buf, r.buf[r.r:r.w])
	returned, r.buf, r.r, r.w = r.buf, buf, 0, n
	return returned
}

// Fill reads once more from the source behind the unread octets. With a full
// buffer it returns ErrTooLong.
func (r *Reader) Fill() error {
	if r.w == len(r.buf) {
		if r.r == 0 {
			return ErrTooLong
		}
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	for range 100 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		if n > 0 {
			return nil // an error with data comes again at the next read
		}
		if err != nil {
			return err
		}
	}
	return errNoProgress
}

// HasLine says whether a whole line is buffered, so that reading it cannot block.
func (r *Reader) HasLine() bool { return bytes.IndexByte(r.Unread(), '\n') >= 0 }

// Line reads one line and returns it without its CRLF, valid until the next
// call. max counts the CRLF. After ErrTooLong the line was skipped to its end
// and reading can go on; after ErrBareCR or ErrBareLF it cannot, because two
// readers may disagree on what follows, nor after ErrEndless.
func (r *Reader) Line(max int) ([]byte, error) {
	scanned := 0
	for {
		unread := r.Unread()
		if i := bytes.IndexByte(unread[scanned:], '\n'); i >= 0 {
			return r.cutLine(scanned+i, max)
		}
		scanned = len(unread)
		if scanned >= max {
			return nil, r.skipLine()
		}
		if scanned == len(r.buf) {
			r.grow(max)
		}
		if err := r.Fill(); err != nil {
			if err == io.EOF && scanned > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// grow makes room for a line of max octets. Few lines need it: AUTH with a
// token (RFC 4954 section 4).
func (r *Reader) grow(max int) {
	buf := make([]byte, max)
	r.r, r.w, r.buf = 0, copy(buf, r.Unread()), buf
}

// cutLine consumes the line whose LF is at lf of the unread octets.
func (r *Reader) cutLine(lf, max int) ([]byte, error) {
	line := r.Unread()[:lf+1]
	r.Consume(len(line))
	if lf == 0 || line[lf-1] != '\r' {
		return nil, ErrBareLF
	}
	if bytes.IndexByte(line[:lf-1], '\r') >= 0 {
		return nil, ErrBareCR
	}
	if len(line) > max {
		return nil, ErrTooLong
	}
	return line[:lf-1], nil
}

// maxSkip bounds what is read of a line that is too long. Reading on for ever
// would cost as much as its sender likes.
const maxSkip = 64 << 10

// skipLine drops octets up to and with the next CRLF, in bounded memory and
// time.
func (r *Reader) skipLine() error {
	last := byte(0)
	for skipped := 0; ; {
		unread := r.Unread()
		if skipped += len(unread); skipped > maxSkip {
			return ErrEndless
		}
		if i := bytes.IndexByte(unread, '\n'); i >= 0 {
			if i > 0 {
				last = unread[i-1]
			}
			r.Consume(i + 1)
			if last != '\r' {
				return ErrBareLF
			}
			return ErrTooLong
		}
		if len(unread) > 0 {
			last = unread[len(unread)-1]
		}
		r.Consume(len(unread))
		if err := r.Fill(); err != nil {
			return err
		}
	}
}
