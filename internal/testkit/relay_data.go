package testkit

import (
	"bytes"
	"hash"
	"slices"
	"strconv"
	"strings"
	"time"
)

// headLimit is how far into the content RelayOptions.DigestFrom is looked for.
const headLimit = 16 << 10

// markerLimit bounds the line whose rest is RelayMessage.Marker.
const markerLimit = 512

// transaction is the state between MAIL and end of data.
type transaction struct {
	message RelayMessage
	content *content // nil until DATA or BDAT
}

func newTransaction(s *session, path string, params []string) *transaction {
	return &transaction{message: RelayMessage{
		Connection: s.number, TLS: s.tls, Implicit: s.implicit, Hello: s.helloArg, AuthUser: s.authUser,
		ReversePath: path, MailParams: params,
	}}
}

// content measures what a message consists of, transparency removed.
type content struct {
	opts   *RelayOptions
	size   int64
	digest hash.Hash
	sought []byte // DigestFrom, until it is found
	head   []byte // what came before it was
	line   []byte // the one that it begins, as far as it has come
	ended  bool   // that line is whole, or too long
	bytes  []byte
	fault  *Fault // due at StepContent
}

func (s *session) newContent() *content {
	c := &content{opts: &s.relay.opts, digest: s.relay.opts.Digest(), sought: []byte(s.relay.opts.DigestFrom)}
	c.ended = len(c.sought) == 0
	if fault, found := s.relay.faults.find(StepContent, ""); found {
		c.fault = &fault
	}
	return c
}

func (c *content) write(b []byte) {
	c.size += int64(len(b))
	if c.opts.KeepBytes {
		c.bytes = append(c.bytes, b...)
	}
	if len(c.sought) == 0 {
		c.mark(b)
		c.digest.Write(b)
		return
	}
	c.head = append(c.head, b...)
	if at := lineBeginning(c.head, c.sought); at >= 0 {
		c.mark(c.head[at:])
		c.digest.Write(c.head[at:])
		c.sought, c.head = nil, nil
	} else if len(c.head) > headLimit {
		c.ended = true
		c.digest.Write(c.head)
		c.sought, c.head = nil, nil
	}
}

// mark gathers the line that DigestFrom begins.
func (c *content) mark(b []byte) {
	if c.ended {
		return
	}
	c.line = append(c.line, b[:min(len(b), markerLimit-len(c.line))]...)
	if at := bytes.IndexByte(c.line, '\r'); at >= 0 {
		c.line, c.ended = c.line[:at], true
	} else if len(c.line) == markerLimit {
		c.line, c.ended = nil, true
	}
}

// marker is what tells this message from others: RelayMessage.Marker.
func (c *content) marker() string {
	return strings.TrimSpace(strings.TrimPrefix(string(c.line), c.opts.DigestFrom))
}

// lineBeginning is the offset of the first line that begins with prefix.
func lineBeginning(text, prefix []byte) int {
	if bytes.HasPrefix(text, prefix) {
		return 0
	}
	at := bytes.Index(text, slices.Concat([]byte("\r\n"), prefix))
	if at < 0 {
		return -1
	}
	return at + 2
}

func (c *content) sum() string {
	c.digest.Write(c.head)
	return string(c.digest.Sum(nil))
}

// data receives the content after DATA (RFC 5321 section 4.1.1.4).
func (s *session) data(line string) effect {
	if text := s.judgeData(); text != "" {
		return s.refuse(text)
	}
	result := s.step(StepData, line, "354 End data with <CR><LF>.<CR><LF>")
	if result != proceed {
		return result
	}
	if s.r.Buffered() == 0 && s.flush() != nil {
		return over
	}
	s.transaction.content = s.newContent()
	if s.readDotted() == over {
		return over
	}
	return s.finish(line)
}

func (s *session) judgeData() string {
	switch {
	case s.transaction == nil:
		return "503 5.5.1 MAIL first"
	case len(s.transaction.message.Recipients) == 0:
		return "554 5.5.1 no valid recipients" // RFC 2920 section 3.1
	case s.transaction.content != nil:
		return "503 5.5.1 BDAT has begun"
	}
	return ""
}

// readDotted reads up to CRLF.CRLF in pieces as large as the buffer holds.
func (s *session) readDotted() effect {
	atLine := true
	for {
		if _, err := s.r.Peek(1); err != nil {
			return over
		}
		b, _ := s.r.Peek(s.r.Buffered())
		if atLine && b[0] == '.' {
			b, err := s.r.Peek(3) // after a dot two more bytes always follow
			if err != nil {
				return over
			}
			if b[1] == '\r' && b[2] == '\n' {
				s.r.Discard(3)
				return proceed
			}
			s.r.Discard(1)
			atLine = false
			continue
		}
		n := piece(b)
		if n == 0 { // a lone CR: what it is shows with the next byte
			if b, err := s.r.Peek(2); err != nil {
				return over
			} else if n = 1; b[1] == '\n' {
				n = 2
			}
			b, _ = s.r.Peek(n)
		}
		atLine = bytes.HasSuffix(b[:n], []byte("\r\n"))
		if s.take(b[:n]) == over {
			return over
		}
		s.r.Discard(n)
	}
}

// piece is how much of b can be taken without a look at what follows: up to the
// line that begins with a dot, and not half of a CRLF.
func piece(b []byte) int {
	if at := bytes.Index(b, []byte("\r\n.")); at >= 0 {
		return at + 2
	}
	if b[len(b)-1] == '\r' {
		return len(b) - 1
	}
	return len(b)
}

// take measures a piece of content and misbehaves in the midst of it if asked.
func (s *session) take(b []byte) effect {
	c := s.transaction.content
	c.write(b)
	if c.fault == nil || c.size < c.fault.Bytes {
		return proceed
	}
	fault := *c.fault
	c.fault = nil
	switch fault.Act {
	case Stall:
		s.relay.counters.faults.Add(1)
		if !s.stall(fault) {
			return over
		}
		return proceed
	case Answer, Raw, Twice, Silent:
		return proceed
	}
	result := s.misbehave(fault, "")
	if result != over && s.flush() != nil {
		return over
	}
	return result
}

// bdat receives a chunk (RFC 3030 section 2). The chunk follows whatever we
// think of the command, so it is read in any case.
func (s *session) bdat(arg, line string) effect {
	sizeText, last, _ := strings.Cut(strings.TrimSpace(arg), " ")
	size, err := strconv.ParseInt(sizeText, 10, 64)
	isLast := strings.EqualFold(last, "LAST")
	if err != nil || size < 0 || (last != "" && !isLast) || !s.relay.offers("CHUNKING") {
		s.reply("501 5.5.4 BDAT size [LAST]")
		return over // where the next command begins is anybody's guess
	}
	sound := s.transaction != nil && len(s.transaction.message.Recipients) > 0
	if sound && s.transaction.content == nil {
		s.transaction.content = s.newContent()
	}
	if s.readChunk(size, sound) == over {
		return over
	}
	switch {
	case !sound:
		return s.refuse("503 5.5.1 MAIL and RCPT first")
	case isLast:
		return s.finish(line)
	}
	return s.step(StepChunk, line, "250 2.0.0 chunk received")
}

func (s *session) readChunk(size int64, sound bool) effect {
	for size > 0 {
		if _, err := s.r.Peek(1); err != nil {
			return over
		}
		b, _ := s.r.Peek(int(min(size, int64(s.r.Buffered()))))
		if sound && s.take(b) == over {
			return over
		}
		size -= int64(len(b))
		s.r.Discard(len(b))
	}
	return proceed
}

// finish answers the end of data and records the message if that was a 250.
func (s *session) finish(line string) effect {
	t := s.transaction
	s.transaction = nil
	if t.content.size > s.relay.opts.MaxSize {
		return s.refuse("552 5.3.4 message too big")
	}
	usual := "250 2.0.0 Ok: queued as R" + strconv.FormatInt(s.relay.counters.transactions.Load()+1, 10)
	s.taken = false
	result := s.step(StepEnd, line, usual)
	if result == proceed || s.taken {
		s.relay.record(t.taken())
	}
	return result
}

// taken is the message as it is recorded.
func (t *transaction) taken() RelayMessage {
	t.message.At = time.Now()
	t.message.Size, t.message.Digest, t.message.Bytes = t.content.size, t.content.sum(), t.content.bytes
	t.message.Marker = t.content.marker()
	return t.message
}
