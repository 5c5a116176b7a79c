package spool

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Filter chooses messages. A message must fit everything that is given.
type Filter struct {
	IDs    []string `json:"ids,omitempty"`
	States []State  `json:"states,omitempty"`
	// Identity is an Identity.Key, or a user's name, uid, unit, container or
	// account.
	Identity string `json:"identity,omitempty"`
	Relay    string `json:"relay,omitempty"`  // of the last try
	Reason   string `json:"reason,omitempty"` // a part of it, or of a relay's reply, in any case of letters
	// OlderThan is how long ago the message was taken, at least.
	OlderThan time.Duration `json:"older_than,omitempty"` // nanoseconds
}

// Match reports whether the filter chooses the message.
func (f Filter) Match(i Item, now time.Time) bool {
	return (len(f.IDs) == 0 || slices.Contains(f.IDs, i.ID)) &&
		(len(f.States) == 0 || slices.Contains(f.States, i.State)) &&
		(f.Identity == "" || i.Identity.is(f.Identity)) &&
		(f.Relay == "" || f.Relay == i.Progress.Relay) &&
		(f.Reason == "" || i.Progress.says(f.Reason)) &&
		(f.OlderThan <= 0 || now.Sub(i.Time) >= f.OlderThan)
}

// is reports whether somebody may mean this identity by a word.
func (id Identity) is(word string) bool {
	if id.UID != nil && word == strconv.FormatUint(uint64(*id.UID), 10) {
		return true
	}
	return slices.Contains([]string{id.Key(), id.User, id.Unit, id.Container, id.Account}, word)
}

// says reports whether part stands in a reason, also of the hold, or in a reply.
func (p Progress) says(part string) bool {
	part = strings.ToLower(part)
	return strings.Contains(p.Hold, part) || strings.Contains(strings.ToLower(p.Reason), part) || slices.ContainsFunc(p.Rest, func(d Due) bool {
		return strings.Contains(strings.ToLower(d.Reply), part)
	})
}
