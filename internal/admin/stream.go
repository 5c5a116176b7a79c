package admin

import (
	"bufio"
	"encoding/json"
	"net/http"
	"time"
)

// flushDelay is how long a line may wait for others, to leave with them.
const flushDelay = 100 * time.Millisecond

// pieceSize is how much of an answer leaves at once: each piece wakes its reader.
const pieceSize = 64 << 10

// stream writes the lines of an answer. A client that does not read is given
// up, so that it does not hold up for long what makes the lines.
type stream struct {
	turn    chan struct{} // holds one while somebody writes: the maker of the lines, or the timer
	control *http.ResponseController
	buffer  *bufio.Writer
	encoder *json.Encoder
	timer   *time.Timer // nil while nothing waits
	err     error       // the first; nothing is written after it
	ended   bool
}

// newStream begins an answer of lines and sends its head, so that the client
// knows that somebody is at work. end must be called.
func newStream(w http.ResponseWriter) *stream {
	s := &stream{turn: make(chan struct{}, 1), control: http.NewResponseController(w), buffer: bufio.NewWriterSize(w, pieceSize)}
	s.encoder = json.NewEncoder(s.buffer)
	s.encoder.SetEscapeHTML(false)
	w.Header().Set("Content-Type", typeLines)
	defer s.take()()
	s.flush()
	return s
}

// write adds a line.
func (s *stream) write(l line) error {
	defer s.take()()
	if s.err != nil {
		return s.err
	}
	giveTime(s.control)
	if s.err = s.encoder.Encode(l); s.err == nil && s.timer == nil {
		s.timer = time.AfterFunc(flushDelay, s.flushLater)
	}
	return s.err
}

// take waits for the turn; what it returns gives it back.
func (s *stream) take() func() {
	s.turn <- struct{}{}
	return func() { <-s.turn }
}

func (s *stream) flushLater() {
	defer s.take()()
	s.timer = nil
	if !s.ended && s.err == nil {
		s.flush()
	}
}

func (s *stream) flush() {
	giveTime(s.control)
	if s.err = s.buffer.Flush(); s.err == nil {
		s.err = s.control.Flush()
	}
}

// end writes the rest: nothing is written after it.
func (s *stream) end() {
	defer s.take()()
	s.ended = true
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.err == nil {
		s.flush()
	}
}

// giveTime gives the client time to read what is written next. Where there is
// no connection, as in a test without one, there is nothing to wait for.
func giveTime(control *http.ResponseController) {
	_ = control.SetWriteDeadline(time.Now().Add(answerTime))
}
