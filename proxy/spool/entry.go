package spool

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// Entry is everything that is known of a message but its text.
type Entry struct {
	// ID names the message, in the spool's file names, the log and the
	// reply: 1 to 64 ASCII letters and digits. A Writer makes one if it is
	// empty, of which later ones sort after earlier ones.
	ID string `json:"id"`
	// Time is when the spool took the message, to the millisecond, in UTC.
	Time time.Time `json:"time"`
	// Reason is Progress.Reason of a file of format 1, which knew no other.
	Reason string `json:"reason,omitempty"`
	// Envelope is as the client gave it.
	Envelope smtp.Envelope `json:"envelope"`
	// Identity is who submitted it, for the policy to be asked again.
	Identity Identity `json:"identity"`
	// Size is the length of the message in bytes, as it is stored. A Writer
	// ignores it.
	Size int64 `json:"size,omitempty"`
}

// Identity is the attributes that policy decides by. Empty is unknown.
type Identity struct {
	// UID is nil unless the kernel vouched for it.
	UID *uint32 `json:"peer_uid,omitempty"`
	// Owner is the user who has UID as a subordinate one, nil if it is nobody's.
	Owner     *uint32  `json:"peer_owner,omitempty"`
	User      string   `json:"peer_user,omitempty"`
	Groups    []string `json:"peer_groups,omitempty"`
	Unit      string   `json:"peer_unit,omitempty"`
	Container string   `json:"peer_container,omitempty"`
	// Account is the account that the client authenticated as.
	Account string `json:"auth_id,omitempty"`
	// Listener is where the message came in.
	Listener string `json:"listener,omitempty"`
	// Notice says that nobody submitted the message: it is our own.
	Notice bool `json:"notice,omitempty"`
}

// noticeKey is the Identity.Key of our own messages.
const noticeKey = "notice"

// Key is who the message counts for, one word for each: "notice" for our own,
// even where it is known for whom they are, since a sender whose messages have
// taken all his room must be told of them still; else the most telling proven
// attribute, else the account: "container:X", "uid:N" (of the owner where the uid
// is a subordinate one, of which that has as many as it likes), "account:NAME" or "unknown".
func (id Identity) Key() string {
	switch {
	case id.Notice:
		return noticeKey
	case id.Container != "":
		return "container:" + id.Container
	case id.Owner != nil:
		return "uid:" + strconv.FormatUint(uint64(*id.Owner), 10)
	case id.UID != nil:
		return "uid:" + strconv.FormatUint(uint64(*id.UID), 10)
	case id.Account != "":
		return "account:" + id.Account
	}
	return "unknown"
}

// maxEntry bounds an encoded entry: ten thousand recipients of the greatest
// length fit.
const maxEntry = 16 << 20

// encode is the entry as one line of JSON.
func (e Entry) encode() ([]byte, error) {
	// JSON would replace what is not UTF-8, and so change an address.
	if !e.isUTF8() {
		return nil, errors.New("encoding a spool entry: an address is not UTF-8")
	}
	var b strings.Builder
	e.Size = 0 // has its own line
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // "<" in a reason is for people to read
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("encoding a spool entry: %w", err)
	}
	line := strings.TrimSuffix(b.String(), "\n")
	if len(line) > maxEntry {
		return nil, fmt.Errorf("encoding a spool entry: %d bytes are too many", len(line))
	}
	return []byte(line), nil
}

func (e Entry) isUTF8() bool {
	for _, r := range e.Envelope.Recipients {
		if !utf8.ValidString(r.Address) || !utf8.ValidString(r.Params.ORcpt) {
			return false
		}
	}
	return utf8.ValidString(e.Envelope.ReversePath) && utf8.ValidString(e.Envelope.Params.EnvID)
}

// validID reports whether id can be a file name and nothing more.
func validID(id string) bool {
	if len(id) == 0 || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// The ids that we make.
const (
	idDigits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	idLength = 26
)

// NewID makes a ULID (github.com/ulid/spec): 26 digits in base 32, of 48 bits of
// milliseconds, so that ids sort by time, and 80 random ones, so that none can be
// guessed.
func NewID(now time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.UnixMilli())<<16)
	rand.Read(b[6:])
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	var id [idLength]byte
	for i := len(id) - 1; i >= 0; i-- {
		id[i] = idDigits[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(id[:])
}
