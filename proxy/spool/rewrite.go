package spool

import (
	"fmt"
	"io"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// Rewrite changes what is known of a held message, as when a relay took it for
// some of the recipients: change gets the entry and leaves in it what is still
// to be done. The id, the time and the text stay. The limits do not apply, since
// the message is ours and must not be sent again to those who have it. Nobody
// may remove the message at the same time.
//
// Custody: ours, all the while. When it returns nil the new entry is durable.
// After an error, and after a crash before it returns, the message is there,
// whole, with the old entry or with the new one.
func (s *Spool) Rewrite(id string, change func(*Entry)) error {
	f, h, err := s.openVerified(id)
	if err != nil {
		return err
	}
	defer f.Close()
	e := h.entry
	change(&e)
	e.ID, e.Time = h.entry.ID, h.entry.Time
	line, err := e.encode()
	if err != nil {
		return err
	}
	w := newWriter(s, e, line)
	w.replaces = true
	w.reserved = w.head + h.entry.Size
	s.release(-w.reserved)
	err = w.copyFrom(f)
	if w.placed {
		s.release(h.len + h.entry.Size)
	}
	return err
}

// copyFrom writes and commits a message whose text another file has.
func (w *Writer) copyFrom(text durable.File) error {
	if err := w.open(); err != nil {
		w.s.release(w.reserved)
		return err
	}
	defer w.Abort()
	if _, err := io.Copy(onlyWriter{w}, onlyReader{text}); err != nil {
		return fmt.Errorf("rewriting message %s: %w", w.entry.ID, err)
	}
	_, err := w.Commit()
	return err
}
