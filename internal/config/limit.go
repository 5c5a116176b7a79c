package config

import (
	"fmt"
	"strconv"
	"time"
)

// Limit is how much may be sent in any window of its length, however that lies.
type Limit struct {
	Max     int64 // from 1
	Counted Counted
	Window  time.Duration // from 1 s to 30 days
}

// Counted is what a limit counts.
type Counted string

// What limits count. A recipient is new to an identity that has not sent to it
// for 30 days.
const (
	Messages      Counted = "messages"
	Recipients    Counted = "recipients"
	NewRecipients Counted = "new-recipients"
	Bytes         Counted = "bytes"
)

// windows are those with a name. A month is 30 days, whatever the calendar says.
var windows = []struct {
	name string
	span time.Duration
}{{"second", time.Second}, {"minute", time.Minute}, {"hour", time.Hour}, {"day", day}, {"week", 7 * day}, {"month", 30 * day}}

// String returns the limit as the file has it: "100 messages/hour",
// "500MiB/day".
func (l Limit) String() string {
	if l.Counted == Bytes {
		return formatSize(l.Max) + "/" + formatWindow(l.Window)
	}
	return fmt.Sprintf("%s %s/%s", strconv.FormatInt(l.Max, 10), l.Counted, formatWindow(l.Window))
}

// formatWindow writes the window by its name where it has one.
func formatWindow(window time.Duration) string {
	for _, w := range windows {
		if w.span == window {
			return w.name
		}
	}
	return formatDuration(window)
}
