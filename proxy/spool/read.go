package spool

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// Message is a message that was verified. Reading gives its text; close it.
type Message struct {
	Item
	io.ReadCloser
}

// Rewind goes back to the beginning of the text.
func (m *Message) Rewind() error { return m.ReadCloser.(*text).rewind() }

// text is the part of a file that is the message.
type text struct {
	file        durable.File
	start, size int64
	left        int64
}

func (t *text) Read(p []byte) (int, error) {
	if t.left <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > t.left {
		p = p[:t.left]
	}
	n, err := t.file.Read(p)
	t.left -= int64(n)
	if errors.Is(err, io.EOF) && t.left > 0 {
		err = io.ErrUnexpectedEOF // it was all there when we verified it
	}
	return n, err
}

func (t *text) Close() error { return t.file.Close() }

func (t *text) rewind() error {
	t.left = t.size
	_, err := t.file.Seek(t.start, io.SeekStart)
	return err
}

// Read opens a message of the queue, after having read and verified all of it,
// so that no damaged message is begun to be delivered. It fails with ErrUnknown
// if there is none, and with ErrDamaged if it was moved to corrupt/ for that.
//
// Custody: ours, unchanged.
func (s *Spool) Read(id string) (*Message, error) {
	o, err := s.open(id)
	if err != nil {
		return nil, err
	}
	m, h, err := o.message()
	if err != nil {
		o.file.Close()
		return nil, s.failed(id, err)
	}
	s.learn(id, h)
	return m, nil
}

// Show is what is known of one message of the queue. It reads the head and the
// tail of its file, but not the text. It fails as Read does.
//
// Custody: ours, unchanged.
func (s *Spool) Show(id string) (Item, error) {
	o, err := s.open(id)
	if err != nil {
		return Item{}, err
	}
	defer o.file.Close()
	item, h, err := o.item()
	if err != nil {
		return Item{}, s.failed(id, err)
	}
	s.learn(id, h)
	return item, nil
}

// opened is a message's file.
type opened struct {
	file        durable.File
	id          string
	state       State
	interrupted bool
}

// open opens the file of a message of the queue.
func (s *Spool) open(id string) (opened, error) {
	r, err := s.claim(id, queued...)
	if err != nil {
		return opened{}, err
	}
	defer r.mu.Unlock()
	f, err := s.fs.OpenFile(s.queuePath(id, r.fileState()), os.O_RDONLY, 0)
	if err != nil {
		return opened{}, fmt.Errorf("reading message %s: %w", id, s.gone(id, r, err))
	}
	return opened{file: f, id: id, state: r.state, interrupted: r.interrupted}, nil
}

// learn keeps what a head says: whose a message is, for the limits, and where its
// tail begins.
func (s *Spool) learn(id string, h head) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.index.records[id]; r != nil {
		s.index.attribute(r, h.entry.Identity.Key())
		r.tail = h.end()
	}
}

// failed reports a message that could not be read, and puts it aside if it is
// damaged. It stays where it is if only the reading failed: that may pass.
func (s *Spool) failed(id string, err error) error {
	err = fmt.Errorf("reading message %s: %w", id, err)
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	return errors.Join(err, s.aside(id, err))
}

// item reads the head and the tail.
func (o opened) item() (Item, head, error) {
	h, err := readHead(o.file, o.id)
	if err != nil {
		return Item{}, head{}, err
	}
	size, err := o.file.Seek(0, io.SeekEnd)
	if err != nil {
		return Item{}, head{}, err
	}
	if size < h.end() {
		return Item{}, head{}, fmt.Errorf("%w: the message ends early", ErrDamaged)
	}
	item := Item{Entry: h.entry, State: o.state, Stored: size}
	if item.Progress, err = o.progress(h, size); err != nil {
		return Item{}, head{}, err
	}
	return item, h, item.checkRest()
}

// progress reads the tail.
func (o opened) progress(h head, size int64) (Progress, error) {
	l, ok, err := readTail(o.file, h.end(), size)
	if err != nil {
		return Progress{}, fmt.Errorf("reading the progress: %w", err)
	}
	p := l.Progress
	switch {
	case ok:
	case h.version == 1:
		p = Progress{Time: h.entry.Time, Reason: h.entry.Reason, Hold: HoldNoRelay}
	default:
		return Progress{}, fmt.Errorf("%w: there is no line of progress", ErrDamaged)
	}
	// What follows the last line was either never synced, or was damaged later,
	// and then the relay may have had the message since.
	p.PossibleDuplicate = p.PossibleDuplicate || l.torn || o.interrupted
	return p, nil
}

// message reads everything and leaves the file at the beginning of the text.
func (o opened) message() (*Message, head, error) {
	item, h, err := o.item()
	if err != nil {
		return nil, head{}, err
	}
	t := &text{file: o.file, start: h.len, size: h.entry.Size}
	if err := t.rewind(); err != nil {
		return nil, head{}, err
	}
	if err := verifyMessage(o.file, h); err != nil {
		return nil, head{}, err
	}
	return &Message{Item: item, ReadCloser: t}, h, t.rewind()
}
