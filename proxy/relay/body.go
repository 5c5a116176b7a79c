package relay

import (
	"bytes"
	"strconv"
	"sync"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

const (
	// bodySize is how much of a message is gathered for one write, and so the
	// size of a BDAT chunk.
	bodySize = 32 << 10
	// chunkRoom stands in front of a chunk for "BDAT n LAST\r\n".
	chunkRoom = 32
	// maxChunks bounds the BDAT commands whose replies were not read yet, so
	// that replies cannot fill the relay's send buffer while we fill its
	// receive buffer.
	maxChunks = 16
)

var bodyBuffers = sync.Pool{New: func() any { return new([chunkRoom + bodySize]byte) }}

// body is the data phase: what is gathered for the next write and what the
// relay has said so far.
type body struct {
	buffer  *[chunkRoom + bodySize]byte
	n       int         // octets gathered behind chunkRoom
	last    byte        // the message's last octet so far; LF before the first
	waiting bool        // DATA was sent and 354 not read yet
	chunks  int         // BDAT commands without their reply
	reply   *smtp.Reply // the relay's last word on the message: what follows is dropped
	failure *Error      // the connection's: what follows is dropped
}

func (b *body) gathered() []byte { return b.buffer[chunkRoom : chunkRoom+b.n] }

func (b *body) borrow() {
	if b.buffer == nil {
		b.buffer = bodyBuffers.Get().(*[chunkRoom + bodySize]byte)
	}
}

func (b *body) free() {
	if b.buffer != nil {
		bodyBuffers.Put(b.buffer)
		b.buffer, b.n = nil, 0
	}
}

// over says that nothing more needs to be sent.
func (b *body) over() bool { return b.reply != nil || b.failure != nil }

// StartData announces the data now, where that takes a round trip, so that it
// passes while the client still sends. Not to be called while the message may
// still be refused here: data cannot be taken back.
func (t *Transaction) StartData() {
	if t.c.capabilities.Chunking || t.phase == phaseData {
		return
	}
	t.phase = phaseData
	_ = t.c.SetDeadline(time.Now().Add(t.pool.options.Timeouts.Command))
	if t.outOfStep() {
		return
	}
	if _, err := t.c.Write(dataCommand); err != nil {
		t.body.failure = t.pool.fail(StepData, err)
		return
	}
	t.body.waiting = true
}

var dataCommand = []byte("DATA\r\n")

// outOfStep finds a reply that came before its command: what the relay says
// from here on could be about anything, and must not be taken for custody. It
// costs nothing, and so finds only what was read already.
func (t *Transaction) outOfStep() bool {
	if len(t.c.reader.Unread()) > 0 {
		t.body.failure = t.pool.fail(StepData, errExtraReply)
	}
	return t.body.failure != nil
}

// Write takes octets of the message, without transparency and with CRLF line
// ends, and copies them. What the relay makes of it is told by Finish.
func (t *Transaction) Write(p []byte) {
	t.body.borrow()
	for len(p) > 0 && !t.body.over() {
		n := t.gather(p)
		t.body.last = p[n-1]
		p = p[n:]
		// Transparency may lengthen by half.
		if t.body.n >= bodySize-bodySize/4 {
			t.flushBody(false)
		}
	}
}

// gather copies some of p behind what is gathered already.
func (t *Transaction) gather(p []byte) int {
	b := &t.body
	room := bodySize - b.n
	if t.c.capabilities.Chunking {
		n := copy(b.buffer[chunkRoom+b.n:], p)
		b.n += n
		return n
	}
	n := min(len(p), room/2)
	b.n = len(smtp.AppendStuffed(b.gathered(), p[:n], b.last == '\n'))
	return n
}

// Finish ends the data and gives the relay's reply to the message. The error
// is an *Error and then nobody answers for the message but, where it says
// Unknown, perhaps the relay.
func (t *Transaction) Finish() (smtp.Reply, error) {
	t.body.borrow()
	if t.body.last != '\n' {
		t.Write([]byte("\r\n"))
	}
	if !t.body.over() && !t.c.capabilities.Chunking {
		t.body.n += copy(t.body.buffer[chunkRoom+t.body.n:], ".\r\n")
	}
	if !t.body.over() {
		t.flushBody(true)
	}
	if !t.body.over() {
		t.readFinal()
	}
	if t.body.failure != nil {
		t.phase = phaseBroken
		t.Abort()
		return smtp.Reply{}, t.body.failure
	}
	reply := *t.body.reply
	t.end(reply)
	return reply, nil
}

// flushBody writes what is gathered.
func (t *Transaction) flushBody(last bool) {
	b := &t.body
	if t.c.capabilities.Chunking {
		t.flushChunk(last)
		return
	}
	t.StartData()
	if b.waiting && !b.over() {
		t.awaitGo()
	}
	if !b.over() && !t.outOfStep() {
		t.writeBody(b.gathered(), last)
	}
	b.n = 0
}

// flushChunk writes a chunk, ahead of the replies to those before it where the
// relay allows pipelining (RFC 3030 section 2).
func (t *Transaction) flushChunk(last bool) {
	b := &t.body
	ahead := 1
	if t.c.capabilities.Pipelining {
		ahead = maxChunks
	}
	for b.chunks >= ahead && !b.over() {
		t.readChunkReply()
	}
	if !b.over() && (b.chunks > 0 || !t.outOfStep()) {
		t.writeBody(t.chunk(last), last)
		b.chunks++
	}
	b.n = 0
}

// chunk puts "BDAT n[ LAST]" in front of what is gathered (RFC 3030 section 2).
func (t *Transaction) chunk(last bool) []byte {
	b := &t.body
	t.phase = phaseData
	var command [chunkRoom]byte
	line := append(command[:0], "BDAT "...)
	line = strconv.AppendInt(line, int64(b.n), 10)
	if last {
		line = append(line, " LAST"...)
	}
	line = append(line, '\r', '\n')
	start := chunkRoom - len(line)
	copy(b.buffer[start:], line)
	return b.buffer[start : chunkRoom+b.n]
}

// awaitGo reads the reply to DATA.
func (t *Transaction) awaitGo() {
	t.body.waiting = false
	_ = t.c.SetDeadline(time.Now().Add(t.pool.options.Timeouts.Command))
	reply, err := smtp.ReadReply(t.c.reader)
	switch {
	case err != nil:
		t.body.failure = t.pool.fail(StepData, closedIfEOF(err))
	case reply.Code == 354:
	case aboutUs(reply):
		t.body.failure = t.pool.fail(stepOf(reply), &refusal{reply})
	case reply.Transient() || reply.Permanent():
		t.body.reply = &reply
		// The relay keeps the envelope after it refused DATA.
		t.phase, t.c.needsReset = phaseEnvelope, true
	default:
		t.body.failure = t.pool.fail(StepData, &refusal{reply})
	}
}

// writeBody sends octets of the data phase. A relay that refuses in the middle
// says so before it closes: that reply is the message's.
func (t *Transaction) writeBody(p []byte, last bool) {
	_ = t.c.SetDeadline(time.Now().Add(t.pool.options.Timeouts.Block))
	_, err := t.c.Write(p)
	if err == nil {
		return
	}
	if reply, ok := t.lastWord(); ok {
		t.refuse(reply)
		return
	}
	t.body.failure = t.pool.fail(StepData, err)
	t.body.failure.Unknown = last
}

// lastWord looks for a refusal behind the replies to earlier chunks.
func (t *Transaction) lastWord() (smtp.Reply, bool) {
	_ = t.c.SetReadDeadline(time.Now().Add(time.Second))
	for range t.body.chunks + 1 {
		reply, err := smtp.ReadReply(t.c.reader)
		if err != nil {
			break
		}
		if reply.Permanent() || reply.Transient() {
			return reply, true
		}
	}
	return smtp.Reply{}, false
}

// refuse keeps the relay's refusal of data that it did not let us finish.
func (t *Transaction) refuse(reply smtp.Reply) {
	t.body.reply = &reply
	t.phase = phaseBroken
}

// readChunkReply reads the reply to the oldest BDAT that is not the last.
func (t *Transaction) readChunkReply() {
	_ = t.c.SetDeadline(time.Now().Add(t.pool.options.Timeouts.Block))
	reply, err := smtp.ReadReply(t.c.reader)
	t.body.chunks--
	switch {
	case err != nil:
		t.body.failure = t.pool.fail(StepData, closedIfEOF(err))
	case reply.Transient() || reply.Permanent():
		t.refuse(reply) // the rest is refused too (RFC 3030 section 2)
	case !reply.Positive():
		t.body.failure = t.pool.fail(StepData, &refusal{reply})
	}
}

// readFinal reads the reply that decides about custody. A failure after the end
// of data was sent leaves it unknown.
func (t *Transaction) readFinal() {
	b := &t.body
	for b.chunks > 1 && !b.over() {
		t.readChunkReply()
	}
	if !b.over() {
		t.readReplyToEnd()
	}
	if b.failure != nil {
		b.failure.Unknown = true
	}
}

func (t *Transaction) readReplyToEnd() {
	_ = t.c.SetDeadline(time.Now().Add(t.pool.options.Timeouts.DataEnd))
	reply, err := smtp.ReadReply(t.c.reader)
	switch {
	case err != nil:
		t.body.failure = t.pool.fail(StepDataEnd, closedIfEOF(err))
	case aboutUs(reply) && !reply.Transient() && !reply.Permanent():
		t.body.failure = t.pool.fail(StepDataEnd, &refusal{reply})
	case reply.Positive() && t.moreWasSaid():
		t.body.failure = t.pool.fail(StepDataEnd, errExtraReply)
	default:
		t.body.reply = &reply
	}
}

// moreWasSaid finds a reply behind the last one that was due, other than a
// farewell: then the last one may have been another command's.
func (t *Transaction) moreWasSaid() bool {
	rest := t.c.reader.Unread()
	return len(rest) > 0 && !bytes.HasPrefix(rest, []byte("421"))
}
