package proxy

import (
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// data is RFC 5321 section 4.1.1.4.
func (s *session) data(smtp.Command) {
	if refusal, bad := s.makeRoom(); bad {
		s.endRefused(refusal)
		return
	}
	s.reply(354, smtp.EnhancedCode{}, "end data with <CRLF>.<CRLF>")
	if err := s.flush(); err != nil {
		s.readFailed(err)
		return
	}
	s.startIntake()
	if s.receiveData() {
		s.finishMessage()
	}
}

// makeRoom makes room for the message before any of it is taken, now that all
// recipients are known. A relay that takes none of them now is left, since it
// would refuse the data.
func (s *session) makeRoom() (refusal smtp.Reply, bad bool) {
	t := s.transaction
	if d, streams := t.delivery.(*relayDelivery); streams && d.useless() {
		d.abort()
		t.failure = d.lastWord()
		t.delivery = s.newKept(t.failure)
	}
	if refusal = t.delivery.admit(); refusal.Code == 0 {
		return refusal, false
	}
	return s.mark(refusal), true
}

// startIntake begins the message, which has DataTimeout to come in, however
// slowly.
func (s *session) startIntake() {
	t := s.transaction
	t.intake = newIntake(s, t)
	t.expires = time.Now().Add(s.settings.Limits.DataTimeout)
	if !s.settings.looksFirst(t.decision) {
		t.delivery.start()
	}
}

// receiveData reads to the end of the data; false if the session cannot go on.
func (s *session) receiveData() bool {
	defer s.borrowDataBuffer()()
	s.expect(s.settings.Limits.DataTimeout)
	var decoder smtp.Decoder
	for {
		unread := s.reader.Unread()
		n, used, done, err := decoder.Decode(unread)
		if err != nil {
			s.dataFailed(err)
			return false
		}
		content := used
		if done {
			content -= len(".\r\n")
		}
		// Where no dot was taken off, no line begins with one.
		s.transaction.intake.take(unread[:n], n == content)
		s.reader.Consume(used)
		if done {
			return true
		}
		if err := s.reader.Fill(); err != nil {
			s.dataFailed(err)
			return false
		}
	}
}

// borrowDataBuffer gives the reader a large buffer, and takes it back later
// unless more is pipelined behind the data than the small one holds.
func (s *session) borrowDataBuffer() (giveBack func()) {
	large := dataBuffers.Get().(*[dataBuffer]byte)
	small := s.reader.Lend(large[:])
	return func() {
		if returned := s.reader.Lend(small); &returned[0] == &large[0] {
			dataBuffers.Put(large)
		}
	}
}

// dataFailed ends a session whose data broke off or broke the rules.
func (s *session) dataFailed(err error) {
	t := s.transaction
	t.outcome = result{custody: audit.CustodyClient, err: s.brokenOff(err)}
	if errors.Is(err, smtp.ErrBareCR) || errors.Is(err, smtp.ErrBareLF) {
		reply := s.mark(smtp.NewReply(554, smtp.EnhancedCode{5, 6, 0}, err.Error()+" is not allowed, lines end in CRLF"))
		t.outcome.reply = reply
		s.dropTransaction(nil)
		s.hangUp(reply.Code, reply.Enhanced, reply.Text())
		return
	}
	s.readFailed(err)
	s.dropTransaction(nil)
}

// brokenOff says what an error of the connection means here.
func (s *session) brokenOff(err error) error {
	switch {
	case s.ctx.Err() != nil:
		return s.whyCutOff()
	case errors.Is(err, io.EOF):
		return errLeft
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlow
	}
	return err
}

// finishMessage ends the delivery and gives the client its reply.
func (s *session) finishMessage() {
	t := s.transaction
	t.outcome = t.intake.finish()
	t.outcome.reply = s.mark(t.outcome.reply)
	ours := t.intake.refusal != nil
	s.dropTransaction(nil)
	if ours {
		s.refuseWith(t.outcome.reply)
		return
	}
	if t.outcome.reply.Code == 421 { // we were cut off: RFC 5321 section 3.8
		s.hangUp(421, t.outcome.reply.Enhanced, t.outcome.reply.Text())
		return
	}
	if t.outcome.reply.Positive() {
		s.errors, s.deferrals, s.empty = 0, 0, 0
	}
	s.out = t.outcome.reply.AppendTo(s.out)
}

// bdat is RFC 3030 section 2. The octets follow at once, whatever we think of
// the command, so they are always read.
func (s *session) bdat(c smtp.Command) {
	chunk, ok := smtp.ParseChunk(c.Arg)
	if !ok || chunk.Size > s.longestChunk() {
		// Where the next command starts cannot be known, or is too far away.
		s.trouble = "unusable BDAT"
		s.hangUp(501, badSyntax, "BDAT needs a number of octets within the announced SIZE")
		return
	}
	if s.state != stateRcpt && s.state != stateChunks {
		s.refuseChunk(chunk.Size, sequence("BDAT comes after an accepted RCPT"))
		return
	}
	t := s.transaction
	if t.intake == nil {
		if refusal, bad := s.makeRoom(); bad {
			t.outcome.reply = refusal
			s.dropTransaction(nil)
			s.refuseChunk(chunk.Size, refusal)
			return
		}
		s.startIntake()
	}
	s.state = stateChunks
	if !s.receiveChunk(chunk.Size, t.intake) {
		return
	}
	if !chunk.Last && t.intake.refusal == nil {
		s.reply(250, smtp.EnhancedCode{2, 0, 0}, strconv.FormatInt(chunk.Size, 10)+" octets received")
		return
	}
	if err := t.intake.checker.End(); chunk.Last && err != nil {
		s.dataFailed(err)
		return
	}
	s.finishMessage()
}

// longestChunk leaves room for a client that is a little over the limit, who
// gets a proper 552.
func (s *session) longestChunk() int64 { return 2*s.settings.Limits.MaxMessage + 1<<20 }

// refuseChunk drops the octets that follow, and answers.
func (s *session) refuseChunk(size int64, refusal smtp.Reply) {
	if s.receiveChunk(size, nil) {
		s.refuseWith(refusal)
	}
}

// receiveChunk reads the octets of one BDAT, into the void without an intake.
func (s *session) receiveChunk(size int64, intake *intake) bool {
	defer s.borrowDataBuffer()()
	s.expect(s.settings.Limits.DataTimeout)
	for size > 0 {
		part := s.reader.Unread()
		if int64(len(part)) > size {
			part = part[:size]
		}
		if intake != nil {
			if err := intake.checker.Check(part); err != nil {
				s.dataFailed(err)
				return false
			}
			intake.take(part, false)
		}
		size -= int64(len(part))
		s.reader.Consume(len(part))
		if size == 0 {
			break
		}
		if err := s.reader.Fill(); err != nil {
			s.chunkFailed(err)
			return false
		}
	}
	return true
}

func (s *session) chunkFailed(err error) {
	if s.transaction != nil {
		s.dataFailed(err)
		return
	}
	s.readFailed(err)
}
