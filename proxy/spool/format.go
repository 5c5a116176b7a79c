package spool

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The lines of the head, docs/spool-format.md. They have a fixed length but for
// the entry, so that the head can be written again once the message is known.
const (
	magic       = "smtpwall-spool 2\n"
	magic1      = "smtpwall-spool 1\n" // had no progress lines
	sizePrefix  = "size: "
	sumPrefix   = "sha256: "
	entryPrefix = "entry: "
	headPrefix  = "head-sha256: "
	sizeDigits  = 19 // all of an int64
)

// ErrDamaged says that a file is not what was written.
var ErrDamaged = errors.New("damaged")

// digest is a SHA-256 sum.
type digest = [sha256.Size]byte

// encodeHead makes the head of a file: what the message must be, the entry, and
// a sum over all of that.
func encodeHead(entry []byte, size int64, sum digest) []byte {
	b := make([]byte, 0, len(entry)+256)
	b = append(b, magic...)
	b = fmt.Appendf(b, "%s%0*d\n", sizePrefix, sizeDigits, size)
	b = fmt.Appendf(b, "%s%x\n", sumPrefix, sum)
	b = append(append(append(b, entryPrefix...), entry...), '\n')
	return fmt.Appendf(b, "%s%x\n\n", headPrefix, sha256.Sum256(b))
}

// headLength is the length of the head with an entry, whatever the message.
func headLength(entry []byte) int64 {
	const lines = len(magic) + len(sizePrefix) + sizeDigits + len(sumPrefix) + 2*sha256.Size +
		len(entryPrefix) + len(headPrefix) + 2*sha256.Size + len("\n\n\n\n\n")
	return int64(lines + len(entry))
}

// head is a file's head, verified.
type head struct {
	entry   Entry
	version int
	own     digest // of the head itself
	sum     digest // of the message
	len     int64  // of the head: where the message begins
}

// end is where the message ends and the progress lines begin.
func (h head) end() int64 { return h.len + h.entry.Size }

// readHead reads and verifies the head at the beginning of r. What is wrong with
// the file is an ErrDamaged, what is wrong with reading it is not.
func readHead(r io.Reader, id string) (head, error) {
	br := bufio.NewReaderSize(r, 4096)
	lines := lineReader{r: br}
	first := lines.next(len(magic))
	size := lines.field(sizePrefix, sizeDigits)
	sum := lines.field(sumPrefix, 2*sha256.Size)
	entry := lines.field(entryPrefix, maxEntry)
	signed := sha256.Sum256(lines.all)
	headSum := lines.field(headPrefix, 2*sha256.Size)
	blank := lines.next(1)
	if lines.err != nil {
		return head{}, lines.err
	}
	if first != magic && first != magic1 || blank != "\n" || headSum != hex.EncodeToString(signed[:]) {
		return head{}, fmt.Errorf("%w: the head is not as it was written", ErrDamaged)
	}
	h, err := decodeHead(id, size, sum, entry)
	h.len, h.version, h.own = int64(len(lines.all)), 2, signed
	if first == magic1 {
		h.version = 1
	}
	return h, err
}

// decodeHead makes sense of a head whose sum is right.
func decodeHead(id, size, sum, entry string) (head, error) {
	var h head
	if err := json.Unmarshal([]byte(entry), &h.entry); err != nil {
		return head{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	n, err := strconv.ParseUint(size, 10, 63)
	if err != nil {
		return head{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	h.entry.Size = int64(n)
	if n, err := hex.Decode(h.sum[:], []byte(sum)); err != nil || n != len(h.sum) {
		return head{}, fmt.Errorf("%w: no checksum", ErrDamaged)
	}
	if h.entry.ID != id {
		return head{}, fmt.Errorf("%w: the file of another message (%q)", ErrDamaged, h.entry.ID)
	}
	return h, nil
}

// lineReader reads the lines of a head; after an error it reads no more.
type lineReader struct {
	r   *bufio.Reader
	all []byte // everything read so far
	err error
}

// next is the next line with its end, of at most limit bytes.
func (l *lineReader) next(limit int) string {
	start := len(l.all)
	for l.err == nil {
		part, err := l.r.ReadSlice('\n')
		l.all = append(l.all, part...)
		switch {
		case len(l.all)-start > limit:
			l.err = fmt.Errorf("%w: a line of the head is too long", ErrDamaged)
		case err == nil:
			return string(l.all[start:])
		case errors.Is(err, io.EOF):
			l.err = fmt.Errorf("%w: the head ends early", ErrDamaged)
		case !errors.Is(err, bufio.ErrBufferFull):
			l.err = fmt.Errorf("reading the head: %w", err)
		}
	}
	return ""
}

// field is the value of the next line, which must begin with prefix.
func (l *lineReader) field(prefix string, limit int) string {
	line := l.next(len(prefix) + limit + 1)
	value, ok := strings.CutPrefix(line, prefix)
	if !ok && l.err == nil {
		l.err = fmt.Errorf("%w: the head has no %q", ErrDamaged, strings.TrimSpace(prefix))
	}
	return strings.TrimSuffix(value, "\n")
}

// verifyMessage reads the message from r and compares it with what the head says.
func verifyMessage(r io.Reader, h head) error {
	hash := sha256.New()
	n, err := io.CopyBuffer(onlyWriter{hash}, onlyReader{io.LimitReader(r, h.entry.Size)}, make([]byte, max(1, min(h.entry.Size, 64<<10))))
	if err != nil {
		return fmt.Errorf("reading the message: %w", err)
	}
	if n != h.entry.Size {
		return fmt.Errorf("%w: the message has %d bytes instead of %d", ErrDamaged, n, h.entry.Size)
	}
	return h.verify(digest(hash.Sum(nil)))
}

// verify compares the message's sum with what the head says.
func (h head) verify(sum digest) error {
	if sum != h.sum {
		return fmt.Errorf("%w: the message is not as it was written", ErrDamaged)
	}
	return nil
}

// onlyReader and onlyWriter keep io.Copy from shortcuts around its buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)
