package filter

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/emersion/go-milter"
)

// Bounds of what a filter may send in one conversation, a new body aside.
const (
	maxFrame      = 1 << 20
	maxFrames     = 10_000
	maxFrameBytes = 4 << 20
)

// progress is a filter's word that it is still at work (SMFIR_PROGRESS).
const progress = 'p'

// errProtocol is a filter that breaks the protocol or our bounds.
var errProtocol = errors.New("filter breaks the protocol")

// link stands between the library's client and the filter. The library waits
// for each packet as long as it is told, but knows no end of them all; it takes
// packets half-made; and it keeps a new body in memory, however long. So link
// keeps the time, lets only whole and well-formed packets through, and takes
// those of a new body out of the stream.
type link struct {
	net.Conn
	in      *bufio.Reader
	timeout time.Duration
	end     time.Time // of the conversation, whatever the filter says
	body    *replacement
	ending  bool // the filter has the whole message and may change it

	frame  []byte // the packet that the library reads now
	unread []byte // of frame
	frames int
	octets int
}

func newLink(conn net.Conn, timeout time.Duration, body *replacement) *link {
	return &link{Conn: conn, in: bufio.NewReader(conn), timeout: timeout, end: time.Now().Add(10 * timeout), body: body}
}

// Read gives the library the filter's next packet.
func (l *link) Read(p []byte) (int, error) {
	if len(l.unread) == 0 {
		if err := l.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, l.unread)
	l.unread = l.unread[n:]
	return n, nil
}

// Write sends a packet, or a part of one.
func (l *link) Write(p []byte) (int, error) {
	if err := l.SetWriteDeadline(l.deadline()); err != nil {
		return 0, err
	}
	return l.Conn.Write(p)
}

func (l *link) deadline() time.Time {
	if silence := time.Now().Add(l.timeout); silence.Before(l.end) {
		return silence
	}
	return l.end
}

// next reads up to a packet that is for the library.
func (l *link) next() error {
	for {
		if err := l.readFrame(); err != nil {
			return err
		}
		code, data := l.frame[4], l.frame[5:]
		switch {
		case code == progress:
			continue
		case code == byte(milter.ActReplBody) && l.ending:
			if err := l.body.write(data); err != nil {
				return err
			}
			continue
		}
		if err := checkFrame(code, data, l.ending); err != nil {
			return err
		}
		l.unread = l.frame
		return nil
	}
}

// readFrame reads one packet: its length in four octets, a code, and data.
func (l *link) readFrame() error {
	if err := l.SetReadDeadline(l.deadline()); err != nil {
		return err
	}
	var length [4]byte
	if _, err := io.ReadFull(l.in, length[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(length[:])
	if size == 0 || size > maxFrame {
		return fmt.Errorf("%w: packet of %d octets", errProtocol, size)
	}
	l.frame = append(l.frame[:0], length[:]...)
	l.frame = append(l.frame, make([]byte, size)...)
	if _, err := io.ReadFull(l.in, l.frame[4:]); err != nil {
		return fmt.Errorf("packet broken off: %w", err)
	}
	return l.count(l.frame[4], int(size))
}

// count holds the filter to its bounds. Progress has the time as its only one,
// a new body its size.
func (l *link) count(code byte, size int) error {
	switch code {
	case progress, byte(milter.ActReplBody):
		return nil
	}
	l.frames++
	l.octets += size
	if l.frames > maxFrames || l.octets > maxFrameBytes {
		return fmt.Errorf("%w: more than %d packets or %d octets of them", errProtocol, maxFrames, maxFrameBytes)
	}
	return nil
}

// checkFrame says what is wrong with a packet. Changes come only when the filter
// has the whole message.
func checkFrame(code byte, data []byte, ending bool) error {
	strings, prefix := 0, 0
	switch code {
	case byte(milter.CodeOptNeg), byte(milter.ActAccept), byte(milter.ActContinue), byte(milter.ActDiscard),
		byte(milter.ActReject), byte(milter.ActTempFail):
		return nil
	case byte(milter.ActReplyCode):
		return checkReply(data)
	case byte(milter.ActAddRcpt), byte(milter.ActDelRcpt), byte(milter.ActQuarantine), byte(milter.ActChangeFrom):
		strings = 1
	case byte(milter.ActAddHeader):
		strings = 2
	case byte(milter.ActChangeHeader), byte(milter.ActInsertHeader):
		strings, prefix = 2, 4
	default:
		return fmt.Errorf("%w: packet of kind %q", errProtocol, code)
	}
	if !ending {
		return fmt.Errorf("%w: packet of kind %q before the end of the message", errProtocol, code)
	}
	// A sender may be followed by parameters, each a string of its own.
	if len(data) <= prefix || data[len(data)-1] != 0 ||
		code != byte(milter.ActChangeFrom) && bytes.Count(data[prefix:], []byte{0}) != strings {
		return fmt.Errorf("%w: packet of kind %q is malformed", errProtocol, code)
	}
	return nil
}

// checkReply takes "550 text" with a NUL at its end and nowhere else.
func checkReply(data []byte) error {
	if len(data) < 5 || data[3] != ' ' && data[3] != '-' || bytes.IndexByte(data, 0) != len(data)-1 {
		return fmt.Errorf("%w: malformed reply %.40q", errProtocol, data)
	}
	return nil
}
