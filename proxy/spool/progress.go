package spool

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// Why a message is in hold, for Progress.Hold.
const (
	HoldNoRelay       = "no-relay"      // none is configured
	HoldPolicy        = "policy"        // the policy's decision
	HoldUndeliverable = "undeliverable" // and nobody may be told
	HoldPerson        = "person"        // somebody put it there
)

// Progress is what was tried and what is left to do. Each try leaves a new one.
type Progress struct {
	Time     time.Time `json:"time"`          // when this was written
	Attempts int       `json:"attempts"`      // tries so far
	Next     time.Time `json:"next,omitzero"` // not before this; zero is at once
	Reason   string    `json:"reason,omitempty"`
	Relay    string    `json:"relay,omitempty"` // of the last try
	// Rest are the recipients that are not served yet. Nil is all of them,
	// as in the envelope.
	Rest []Due `json:"rest"`
	// PossibleDuplicate says that a try was cut short when the relay may
	// have had the message.
	PossibleDuplicate bool   `json:"possible_duplicate,omitempty"`
	DelayTold         bool   `json:"delay_told,omitempty"` // the delay notice is sent
	Hold              string `json:"hold,omitempty"`       // why it is in hold, Hold…
}

// Due is one recipient that is not served yet.
type Due struct {
	Rcpt  int    `json:"rcpt"`            // index in the envelope's recipients
	Reply string `json:"reply,omitempty"` // the relay's last words about it, one line
	// Failed says that it was refused for good, and that nobody could be told
	// of it yet.
	Failed bool `json:"failed,omitempty"`
}

// Item is a message without its text.
type Item struct {
	Entry
	State    State    `json:"state"`
	Progress Progress `json:"progress"`
	Stored   int64    `json:"stored"` // length of the file in bytes
}

// Recipients are those that are not served yet.
func (i Item) Recipients() []smtp.Recipient {
	if i.Progress.Rest == nil {
		return i.Envelope.Recipients
	}
	due := make([]smtp.Recipient, 0, len(i.Progress.Rest))
	for _, d := range i.Progress.Rest {
		due = append(due, i.Envelope.Recipients[d.Rcpt])
	}
	return due
}

// DueReplies are the relay's last words about each of Recipients, by the same
// index; empty where it has said nothing yet.
func (i Item) DueReplies() []string {
	if i.Progress.Rest == nil {
		return make([]string, len(i.Envelope.Recipients))
	}
	replies := make([]string, 0, len(i.Progress.Rest))
	for _, d := range i.Progress.Rest {
		replies = append(replies, d.Reply)
	}
	return replies
}

// checkRest makes sure that Rest names recipients of the envelope.
func (i Item) checkRest() error {
	for _, d := range i.Progress.Rest {
		if d.Rcpt < 0 || d.Rcpt >= len(i.Envelope.Recipients) {
			return fmt.Errorf("%w: the progress names recipient %d of %d", ErrDamaged, d.Rcpt, len(i.Envelope.Recipients))
		}
	}
	return nil
}

// A line of the tail, docs/spool-format.md.
const (
	progressPrefix = "progress: "
	progressStart  = progressPrefix + `{"`
	progressDigits = 16
	maxText        = 1000 // bytes of a reason or a reply
)

// encode is the progress as one line of the tail.
func (p Progress) encode() ([]byte, error) {
	p.Reason, p.Relay = clip(p.Reason), clip(p.Relay)
	if p.Rest != nil {
		rest := make([]Due, len(p.Rest))
		for i, d := range p.Rest {
			rest[i] = Due{Rcpt: d.Rcpt, Reply: clip(d.Reply), Failed: d.Failed}
		}
		p.Rest = rest
	}
	var b bytes.Buffer
	b.WriteString(progressPrefix)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("encoding progress: %w", err)
	}
	b.Truncate(b.Len() - 1)
	if b.Len() > maxEntry {
		return nil, fmt.Errorf("encoding progress: %d bytes are too many", b.Len())
	}
	sum := sha256.Sum256(b.Bytes()[len(progressPrefix):])
	return fmt.Appendf(b.Bytes(), " %x\n", sum[:progressDigits/2]), nil
}

// clip shortens what others have said to a length that a line can carry for each
// of many recipients.
func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "")
}

// decodeProgress is the inverse of encode, for a line without its end.
func decodeProgress(line []byte) (p Progress, ok bool) {
	line, ok = bytes.CutPrefix(line, []byte(progressPrefix))
	cut := len(line) - progressDigits - 1
	if !ok || cut < 0 {
		return p, false
	}
	sum := sha256.Sum256(line[:cut])
	if string(line[cut:]) != fmt.Sprintf(" %x", sum[:progressDigits/2]) {
		return p, false
	}
	return p, json.Unmarshal(line[:cut], &p) == nil
}

// lastProgress finds the last valid line of a tail, or of the end of one. torn
// says that something follows it, which a crash or a full disk has cut short.
func lastProgress(tail []byte) (p Progress, ok, torn bool) {
	end := len(tail)
	for {
		end = bytes.LastIndexByte(tail[:end], '\n')
		if end < 0 {
			return p, false, len(tail) > 0
		}
		start := bytes.LastIndexByte(tail[:end], '\n') + 1
		// What a crash has left of an earlier line may stand before the line.
		// The start cannot be within one, where quotes are escaped.
		if at := bytes.LastIndex(tail[start:end], []byte(progressStart)); at >= 0 {
			if p, ok = decodeProgress(tail[start+at : end]); ok {
				return p, true, end+1 < len(tail)
			}
		}
	}
}

// How much of a tail is read: near its end, where the last line mostly is, or
// else all that can be.
const (
	nearTail = 8 << 10
	maxTail  = 64 << 20
)

// readTail finds the last valid line in the file between from and to.
func readTail(f durable.File, from, to int64) (p Progress, ok, torn bool, err error) {
	for _, limit := range []int64{nearTail, maxTail} {
		start := max(from, to-limit)
		tail, err := readRange(f, start, to)
		if err != nil {
			return p, false, false, err
		}
		if p, ok, torn = lastProgress(tail); ok || start == from {
			break
		}
	}
	return p, ok, torn, nil
}

// readRange reads the file between two offsets, or to its end.
func readRange(f durable.File, from, to int64) ([]byte, error) {
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, err
	}
	b := make([]byte, to-from)
	n, err := io.ReadFull(f, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return b[:n], err
}
