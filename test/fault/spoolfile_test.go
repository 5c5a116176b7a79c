package fault_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// stored is a message as it lies in a spool. Its file is made here by the words
// of docs/spool-format.md, and not by the code that is tested.
type stored struct {
	letter
	version  int    // of the format, 1 or 2
	name     string // of the file below the spool
	uid      uint32
	taken    time.Time
	progress []spool.Progress // format 2 alone
}

// newStored is a message that waits to be tried at once.
func newStored(l letter) stored {
	return stored{
		letter: l, version: 2, name: "queue/" + l.marker + ".deferred", taken: time.Now(),
		progress: []spool.Progress{{Time: time.Now()}},
	}
}

// id is the marker, which is made of letters and digits.
func (s stored) entry() spool.Entry {
	envelope := smtp.Envelope{ReversePath: s.from(), Params: smtp.MailParams{Body: "8BITMIME"}}
	for _, to := range s.to {
		envelope.Recipients = append(envelope.Recipients, smtp.Recipient{Address: to})
	}
	entry := spool.Entry{
		ID: s.marker, Time: s.taken.UTC().Truncate(time.Millisecond), Envelope: envelope,
		Identity: spool.Identity{UID: &s.uid, Listener: "socket"},
	}
	if s.version == 1 {
		entry.Reason = "no relay is configured"
	}
	return entry
}

// encode is the file's content.
func (s stored) encode(t testing.TB) []byte {
	t.Helper()
	entry, err := json.Marshal(s.entry())
	if err != nil {
		t.Fatal(err)
	}
	text := s.text()
	var b bytes.Buffer
	fmt.Fprintf(&b, "smtpwall-spool %d\nsize: %019d\nsha256: %x\nentry: %s\n", s.version, len(text), sha256.Sum256(text), entry)
	fmt.Fprintf(&b, "head-sha256: %x\n\n%s", sha256.Sum256(b.Bytes()), text)
	for _, progress := range s.progress {
		line, err := json.Marshal(progress)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(line)
		fmt.Fprintf(&b, "progress: %s %x\n", line, sum[:8])
	}
	return b.Bytes()
}

// store puts messages into the spool of a host that does not run, and into the
// ledger: somebody was told 250 for them.
func (h *host) store(all ...stored) {
	h.t.Helper()
	for _, dir := range []string{"", "incoming", "queue", "hold", "corrupt"} {
		if err := os.MkdirAll(filepath.Join(h.spool, dir), 0o700); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, s := range all {
		if err := os.WriteFile(filepath.Join(h.spool, s.name), s.encode(h.t), 0o600); err != nil {
			h.t.Fatal(err)
		}
		h.ledger.begin(s.letter)
		h.ledger.end(s.letter, reply{code: 250}, nil)
	}
}
