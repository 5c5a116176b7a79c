package alert

import (
	"crypto/rand"
	"strings"
	"time"
)

// Event is something that deserves an alert.
type Event struct {
	Kind     string // one of the names by which targets choose
	Identity string // whom or what it is about, in the one spelling of keys; may be empty
	Text     string // a sentence for people
	Time     time.Time
	Count    int               // how many happened; 0 is one
	Fields   map[string]string // more of it, by the keys of the audit log
}

// Storm is the kind of the one alert that stands for many.
const Storm = "storm"

// Bounds of one alert; what is longer is cut, and the cut is marked with "…".
const (
	maxText   = 1024 // octets of any one string
	maxFields = 32
)

// Alert is what a target gets, as one JSON object.
type Alert struct {
	ID         string              `json:"id"` // the same in each try to deliver this alert
	Host       string              `json:"host"`
	Kind       string              `json:"kind"`
	Identity   string              `json:"identity,omitempty"`
	Text       string              `json:"text"`
	Time       time.Time           `json:"time"`                 // of the latest event in it
	Since      time.Time           `json:"since,omitzero"`       // of the first one, where it stands for several
	Count      int                 `json:"count"`                // events in it
	Counts     map[string]int      `json:"counts,omitempty"`     // of a storm: events by kind
	Identities map[string][]string `json:"identities,omitempty"` // of a storm: the first few by kind
	Fields     map[string]string   `json:"fields,omitempty"`     // of the latest event
}

// bounded is the event with its strings cut, and owing nothing to the caller.
func (e Event) bounded(now time.Time) Event {
	e.Identity, e.Text = cut(e.Identity), cut(e.Text)
	e.Count = max(e.Count, 1)
	if e.Time.IsZero() {
		e.Time = now
	}
	if len(e.Fields) == 0 {
		e.Fields = nil
		return e
	}
	fields := make(map[string]string, min(len(e.Fields), maxFields))
	for name, value := range e.Fields {
		if len(fields) == maxFields {
			break
		}
		fields[cut(name)] = cut(value)
	}
	e.Fields = fields
	return e
}

// alert is the alert for this event alone.
func (e Event) alert() Alert {
	return Alert{ID: rand.Text(), Kind: e.Kind, Identity: e.Identity, Text: e.Text, Time: e.Time, Count: e.Count, Fields: e.Fields}
}

// cut shortens a string to its bound, between two characters, and owns it.
func cut(s string) string { return cutAt(s, maxText) }

func cutAt(s string, most int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= most {
		return strings.Clone(s)
	}
	end := most - len("…")
	for end > 0 && s[end]&0xc0 == 0x80 {
		end--
	}
	return s[:end] + "…"
}
