package spool

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

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
	*opened
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
	n, err := t.opened.Read(p)
	t.left -= int64(n)
	if errors.Is(err, io.EOF) && t.left > 0 {
		err = io.ErrUnexpectedEOF // it was all there when we verified it
	}
	return n, err
}

func (t *text) Close() error {
	t.left = 0
	return t.close()
}

func (t *text) rewind() error {
	if _, err := t.Seek(t.start, io.SeekStart); err != nil {
		return err
	}
	t.left = t.size
	return nil
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
	m, h, err := o.loaded(&s.buffers)
	if err != nil {
		o.close()
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
	defer o.close()
	item, h, err := o.item()
	if err != nil {
		return Item{}, s.failed(id, err)
	}
	s.learn(id, h)
	return item, nil
}

// opened is a message's file, or its content.
type opened struct {
	io.ReadSeeker

	file        durable.File // nil once it was loaded, or closed
	id          string
	state       State
	interrupted bool
	short       bool    // it fits into a buffer
	record      *record // nil for a Reader

	content []byte // of a file that was loaded
	free    func() // gives the buffer of it back
}

// errClosed is what a Message says that was closed.
var errClosed = fmt.Errorf("reading a message: %w", fs.ErrClosed)

// closed can be read no more.
type closed struct{}

func (closed) Read([]byte) (int, error)       { return 0, errClosed }
func (closed) Seek(int64, int) (int64, error) { return 0, errClosed }

// close gives back what there is; after the first time it does nothing.
func (o *opened) close() (err error) {
	o.ReadSeeker = closed{}
	if o.file != nil {
		err = o.closeFile()
	}
	if o.free != nil {
		o.free()
		o.content, o.free = nil, nil
	}
	return err
}

// loaded is message. A short file is read at once and closed; all is done with its
// content then.
func (o *opened) loaded(buffers *sync.Pool) (*Message, head, error) {
	if !o.short {
		return o.message()
	}
	buffer := buffers.Get().(*[bufferSize]byte)
	o.free = func() { buffers.Put(buffer) }
	n, err := io.ReadFull(o.file, buffer[:])
	if err == nil { // it has grown
		if _, err = o.Seek(0, io.SeekStart); err != nil {
			return nil, head{}, err
		}
		return o.message()
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, head{}, fmt.Errorf("reading the file: %w", err)
	}
	o.content = buffer[:n]
	o.ReadSeeker = bytes.NewReader(o.content)
	o.closeFile() // all of it was read
	return o.message()
}

func (o *opened) closeFile() error {
	err := o.file.Close()
	o.file = nil
	if o.record != nil {
		o.record.readers.Add(-1)
	}
	return err
}

// open opens the file of a message of the queue.
func (s *Spool) open(id string) (*opened, error) {
	r, err := s.claim(id, queued...)
	if err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	f, err := s.fs.OpenFile(s.queuePath(id, r.fileState()), os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("reading message %s: %w", id, s.gone(id, r, err))
	}
	r.readers.Add(1)
	return &opened{ReadSeeker: f, file: f, id: id, state: r.state, interrupted: r.interrupted, short: r.blocks <= bufferSize, record: r}, nil
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
func (o *opened) item() (Item, head, error) {
	h, err := readHead(o, o.id)
	if err != nil {
		return Item{}, head{}, err
	}
	size, err := o.Seek(0, io.SeekEnd)
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
func (o *opened) progress(h head, size int64) (Progress, error) {
	l, ok, err := readTail(o, h.end(), size)
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

// message reads and verifies everything, and is at the beginning of the text then.
func (o *opened) message() (*Message, head, error) {
	item, h, err := o.item()
	if err != nil {
		return nil, head{}, err
	}
	t := &text{opened: o, start: h.len, size: h.entry.Size}
	if err := t.rewind(); err != nil {
		return nil, head{}, err
	}
	if o.content != nil {
		err = h.verify(sha256.Sum256(o.content[h.len:h.end()]))
	} else {
		err = verifyMessage(o, h)
	}
	if err != nil {
		return nil, head{}, err
	}
	return &Message{Item: item, ReadCloser: t}, h, t.rewind()
}
