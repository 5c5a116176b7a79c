package admin

import (
	"time"

	"github.com/smtpwall/smtpwall/proxy/spool"
)

// The resources. A filter may be long, so it is the body of a POST.
const (
	pathAlive    = "/v1/alive"       // GET: nothing
	pathStatus   = "/v1/status"      // GET: Status
	pathMessages = "/v1/messages/"   // GET with an id: the Item in one line, then the message as it is
	pathList     = "/v1/messages"    // POST a filter: a line each
	pathAct      = "/v1/operations/" // POST a filter, with an Op: a line each
)

const (
	typeJSON    = "application/json"
	typeLines   = "application/x-ndjson"
	typeMessage = "application/vnd.smtpwall.message"
)

// maxFilter bounds the body of a request: some 100,000 ids.
const maxFilter = 4 << 20

// maxAge bounds a filter's age, so that it fits a time.Duration.
const maxAge = 100 * 365 * 24 * time.Hour

// line is one line of a streamed answer: one of the three. Error is the last.
type line struct {
	Item    *Item    `json:"item,omitempty"`
	Outcome *Outcome `json:"outcome,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// failure is the body of an answer that is not 200.
type failure struct {
	Error string `json:"error"`
}

// filter is spool.Filter in JSON.
type filter struct {
	IDs       []string      `json:"ids,omitempty"`
	States    []spool.State `json:"states,omitempty"`
	Identity  string        `json:"identity,omitempty"`
	Relay     string        `json:"relay,omitempty"`
	Reason    string        `json:"reason,omitempty"`
	OlderThan float64       `json:"older_than,omitempty"` // seconds
}

func newFilter(f spool.Filter) filter {
	return filter{
		IDs: f.IDs, States: f.States, Identity: f.Identity, Relay: f.Relay, Reason: f.Reason,
		OlderThan: f.OlderThan.Seconds(),
	}
}

func (f filter) spool() spool.Filter {
	return spool.Filter{
		IDs: f.IDs, States: f.States, Identity: f.Identity, Relay: f.Relay, Reason: f.Reason,
		OlderThan: time.Duration(f.OlderThan * float64(time.Second)),
	}
}

// Item is a spool.Item in JSON, as the API and the command line show it. The
// keys are those of the spool's files.
type Item struct {
	spool.Entry
	State    spool.State    `json:"state"`
	Size     int64          `json:"size"`   // of the message, octets
	Stored   int64          `json:"stored"` // of its file, octets
	Progress spool.Progress `json:"progress"`
}

// NewItem is the item as it is shown.
func NewItem(from spool.Item) Item {
	return Item{Entry: from.Entry, State: from.State, Size: from.Size, Stored: from.Stored, Progress: from.Progress}
}

func (i Item) spool() spool.Item {
	i.Entry.Size = i.Size
	return spool.Item{Entry: i.Entry, State: i.State, Progress: i.Progress, Stored: i.Stored}
}
