package spool

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
)

// A line of the tail, docs/spool-format.md.
const (
	progressPrefix = "progress: "
	progressStart  = progressPrefix + `{"`
	progressDigits = 16
	maxLine        = 1 << 20 // many thousand recipients fit

	maxText    = 1000     // bytes of a reason
	maxReply   = 200      // of what was said of one recipient
	maxReplies = 16 << 10 // of what was said of all
)

// progressLine is the progress as a line has it.
type progressLine struct {
	Progress
	Rest []dueLine `json:"rest"` // instead of Progress.Rest
}

// dueLine is a Due. Most recipients of a message are refused in the same words.
type dueLine struct {
	Due
	Same bool `json:"same,omitempty"` // the reply is that of the one before
}

// encode is the progress as one line of the tail. What is too long is shortened,
// since each try adds a line, and others choose what it says.
func (p Progress) encode() ([]byte, error) {
	p.Reason, p.Relay = clip(p.Reason, maxText), clip(p.Relay, maxText)
	var b bytes.Buffer
	b.WriteString(progressPrefix)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(progressLine{p, encodeRest(p.Rest)}); err != nil {
		return nil, fmt.Errorf("encoding progress: %w", err)
	}
	b.Truncate(b.Len() - 1)
	if b.Len() > maxLine {
		return nil, fmt.Errorf("encoding progress: %d bytes are too many", b.Len())
	}
	sum := sha256.Sum256(b.Bytes()[len(progressPrefix):])
	return fmt.Appendf(b.Bytes(), " %x\n", sum[:progressDigits/2]), nil
}

// encodeRest keeps every recipient, and of the replies as many as there is room
// for.
func encodeRest(rest []Due) []dueLine {
	if rest == nil {
		return nil
	}
	lines, last, room := make([]dueLine, len(rest)), "", maxReplies
	for i, d := range rest {
		reply := clip(d.Reply, maxReply)
		lines[i].Rcpt, lines[i].Failed = d.Rcpt, d.Failed
		if lines[i].Same = reply != "" && reply == last; lines[i].Same {
			continue
		}
		if len(reply) > room {
			reply = ""
		}
		lines[i].Reply, last, room = reply, reply, room-len(reply)
	}
	return lines
}

// clip shortens what others have said.
func clip(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "")
}

// decodeProgress is the inverse of encode, for a line without its end.
func decodeProgress(line []byte) (Progress, bool) {
	line, ok := bytes.CutPrefix(line, []byte(progressPrefix))
	cut := len(line) - progressDigits - 1
	if !ok || cut < 0 {
		return Progress{}, false
	}
	sum := sha256.Sum256(line[:cut])
	if string(line[cut:]) != fmt.Sprintf(" %x", sum[:progressDigits/2]) {
		return Progress{}, false
	}
	var l progressLine
	if json.Unmarshal(line[:cut], &l) != nil {
		return Progress{}, false
	}
	l.Progress.Rest = decodeRest(l.Rest)
	return l.Progress, true
}

func decodeRest(lines []dueLine) []Due {
	if lines == nil {
		return nil
	}
	rest := make([]Due, len(lines))
	for i, l := range lines {
		if rest[i] = l.Due; l.Same && i > 0 {
			rest[i].Reply = rest[i-1].Reply
		}
	}
	return rest
}
