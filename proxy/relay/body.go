package relay

import (
	"bytes"
	"strconv"
	"sync"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

const (
	// bodySize is how much of a message is gathered for one write: two TLS
	// records, since a third with a few octets costs as much as a full one.
	bodySize = 32 << 10
	// chunkRoom stands in front of a message that is sent by BDAT, for
	// "BDAT n LAST\r\n".
	chunkRoom = 32
)

var bodyBuffers = sync.Pool{New: func() any { return new([bodySize]byte) }}

// body is the data phase: what is gathered for the next write and what the
// relay has said so far.
//
// A message that fits one write goes by BDAT where the relay has CHUNKING: that
// saves the round trip of DATA. A longer one goes by DATA, whose round trip it
// does not feel, and which has no replies in between.
type body struct {
	buffer  *[bodySize]byte
	from, n int         // gathered are n octets from there on
	whole   bool        // so far all of the message, for BDAT
	last    byte        // the message's last octet so far; LF before the first
	waiting bool        // DATA was sent and 354 not read yet
	reply   *smtp.Reply // the relay's last word on the message: what follows is dropped
	failure *Error      // the connection's: what follows is dropped
}

func (b *body) gathered() []byte { return b.buffer[b.from : b.from+b.n] }

// room is what can still be gathered.
func (b *body) room() int { return bodySize - b.from - b.n }

func (b *body) borrow() {
	if b.buffer == nil {
		b.buffer = bodyBuffers.Get().(*[bodySize]byte)
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
	if t.byChunk() || t.phase == phaseData || t.body.over() {
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

// byChunk says whether the message goes by BDAT, as far as is known.
func (t *Transaction) byChunk() bool {
	return t.c.capabilities.Chunking && (t.body.buffer == nil || t.body.whole)
}

// begin borrows the buffer, before the first octet.
func (t *Transaction) begin() {
	if t.body.buffer == nil && t.c.capabilities.Chunking && t.phase != phaseData {
		t.body.whole, t.body.from = true, chunkRoom
	}
	t.body.borrow()
}

// Write takes octets of the message, without transparency and with CRLF line
// ends, and copies them. What the relay makes of it is told by Finish.
func (t *Transaction) Write(p []byte) { t.write(p, false) }

// WriteDotless is Write for octets of which no line begins with a dot, so that
// they need not be looked at again.
func (t *Transaction) WriteDotless(p []byte) { t.write(p, true) }

func (t *Transaction) write(p []byte, dotless bool) {
	t.begin()
	b := &t.body
	if b.whole && len(p) > b.room() {
		t.spill()
	}
	for len(p) > 0 && !b.over() {
		n := t.gather(p, dotless)
		if n > 0 {
			b.last = p[n-1]
		}
		p = p[n:]
		if n == 0 || b.room() == 0 && !b.whole {
			t.flushBody(false)
		}
	}
}

// gather copies some of p behind what is gathered already: none if there is no
// room for it.
func (t *Transaction) gather(p []byte, dotless bool) int {
	b := &t.body
	n := min(len(p), b.room())
	if b.whole || dotless {
		b.n += copy(b.buffer[b.from+b.n:], p[:n])
		return n
	}
	for n > 0 && n+dots(p[:n], b.last == '\n') > b.room() {
		n = n * 2 / 3
	}
	b.n = len(smtp.AppendStuffed(b.gathered(), p[:n], b.last == '\n'))
	return n
}

// dots is how many octets transparency adds.
func dots(p []byte, lineStart bool) int {
	n := bytes.Count(p, lineDot)
	if lineStart && p[0] == '.' {
		n++
	}
	return n
}

var lineDot = []byte("\n.")

// spill turns to DATA when the message turns out to be longer than one write.
func (t *Transaction) spill() {
	b := &t.body
	gathered, buffer := b.gathered(), b.buffer
	b.buffer, b.from, b.n, b.whole, b.last = nil, 0, 0, false, '\n'
	b.borrow()
	t.Write(gathered)
	bodyBuffers.Put(buffer)
}

// Finish ends the data and gives the relay's reply to the message. The error
// is an *Error and then nobody answers for the message but, where it says
// Unknown, perhaps the relay.
func (t *Transaction) Finish() (smtp.Reply, error) {
	t.begin()
	b := &t.body
	if b.last != '\n' {
		t.Write([]byte("\r\n"))
	}
	if !b.over() && !b.whole {
		if b.room() < len(endOfData) {
			t.flushBody(false)
		}
		b.n += copy(b.buffer[b.n:], endOfData)
	}
	if !b.over() {
		t.flushBody(true)
	}
	if !b.over() {
		t.readFinal()
	}
	if b.failure != nil {
		t.phase = phaseBroken
		t.Abort()
		return smtp.Reply{}, b.failure
	}
	reply := *b.reply
	t.end(reply)
	return reply, nil
}

const endOfData = ".\r\n"

// flushBody writes what is gathered.
func (t *Transaction) flushBody(last bool) {
	b := &t.body
	if b.whole {
		if !t.outOfStep() {
			t.writeBody(t.chunk(), last)
		}
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

// chunk puts "BDAT n LAST" in front of the message (RFC 3030 section 2).
func (t *Transaction) chunk() []byte {
	b := &t.body
	t.phase = phaseData
	var command [chunkRoom]byte
	line := append(command[:0], "BDAT "...)
	line = strconv.AppendInt(line, int64(b.n), 10)
	line = append(line, " LAST\r\n"...)
	start := b.from - len(line)
	copy(b.buffer[start:], line)
	return b.buffer[start : b.from+b.n]
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
		t.body.failure = t.refused(reply)
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

// lastWord looks for a refusal.
func (t *Transaction) lastWord() (smtp.Reply, bool) {
	_ = t.c.SetReadDeadline(time.Now().Add(time.Second))
	reply, err := smtp.ReadReply(t.c.reader)
	return reply, err == nil && (reply.Permanent() || reply.Transient())
}

// refuse keeps the relay's refusal of data that it did not let us finish.
func (t *Transaction) refuse(reply smtp.Reply) {
	t.body.reply = &reply
	t.phase = phaseBroken
}

// readFinal reads the reply that decides about custody. A failure after the end
// of data was sent leaves it unknown.
func (t *Transaction) readFinal() {
	t.readReplyToEnd()
	if failure := t.body.failure; failure != nil {
		failure.Unknown = true
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
