package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
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

// formatWindow writes the window by its name where it has one, and else in the
// longest unit that needs no fraction, as package proxy/limit does.
func formatWindow(window time.Duration) string {
	for _, w := range windows {
		if w.span == window {
			return w.name
		}
	}
	for _, w := range []struct {
		sign string
		span time.Duration
	}{{"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if window%w.span == 0 {
			return strconv.FormatInt(int64(window/w.span), 10) + w.sign
		}
	}
	return window.String()
}

// mostLimit is the largest number in a limit: a petabyte, or as many messages.
const mostLimit = 1 << 50

const limitHint = `write a number, what it counts and a window: "100 messages/hour", "500 recipients/day", "50 new-recipients/day" or "500MiB/day"`

// parseLimit reads a limit such as "100 messages/hour" or "500MiB/day".
func parseLimit(text string) (Limit, error) {
	amount, name, found := strings.Cut(text, "/")
	if !found {
		return Limit{}, flaw{fmt.Sprintf("%q names no window", text), limitHint}
	}
	limit, err := parseAmount(text, strings.TrimSpace(amount))
	if err != nil {
		return Limit{}, err
	}
	switch {
	case limit.Max == 0:
		return Limit{}, flaw{fmt.Sprintf("%q: with a limit of 0 nothing could ever be sent", text),
			`write decision = "deny" in a rule for that, or remove the limit`}
	case limit.Max > mostLimit:
		return Limit{}, flaw{fmt.Sprintf("%q is too large", text), "remove it for no limit"}
	}
	limit.Window, err = parseWindow(text, strings.TrimSpace(name))
	return limit, err
}

// parseAmount reads the part of a limit before the slash.
func parseAmount(text, amount string) (Limit, error) {
	digits, noun, _ := strings.Cut(amount, " ")
	noun = strings.TrimSpace(noun)
	for _, counted := range []Counted{Messages, Recipients, NewRecipients} {
		if noun != string(counted) && noun+"s" != string(counted) {
			continue
		}
		number, err := strconv.ParseUint(digits, 10, 63)
		if errors.Is(err, strconv.ErrRange) {
			number, err = math.MaxInt64, nil // too large anyway
		}
		if err != nil {
			return Limit{}, flaw{fmt.Sprintf("%q does not begin with a whole number", text), limitHint}
		}
		return Limit{Max: int64(number), Counted: counted}, nil
	}
	if size, err := parseSize(amount); err == nil {
		return Limit{Max: size, Counted: Bytes}, nil
	}
	if strings.Trim(digits, "0123456789") != "" {
		return Limit{}, flaw{fmt.Sprintf("%q is not a limit", text), limitHint}
	}
	nouns := []string{string(Messages), string(Recipients), string(NewRecipients)}
	return Limit{}, flaw{fmt.Sprintf("%q does not say what it counts", text), meant(noun, nouns, limitHint)}
}

// parseWindow reads the part of a limit behind the slash.
func parseWindow(text, name string) (time.Duration, error) {
	var names []string
	for _, w := range windows {
		if w.name == name {
			return w.span, nil
		}
		names = append(names, w.name)
	}
	window, err := parseDuration(name)
	switch {
	case err != nil:
		return 0, flaw{fmt.Sprintf("%q: unknown window %q", text, name),
			meant(name, names, "use "+alternatives(names)+`, or a duration such as "10m"`)}
	case window < time.Second:
		return 0, flaw{fmt.Sprintf("%q: the window is too short", text), "the least is a second"}
	case window > 30*day:
		return 0, flaw{fmt.Sprintf("%q: the window is too long", text), "the most is a month, which has 30 days"}
	}
	return window, nil
}

// limits binds a list of limits.
func limits(into *[]Limit) binding {
	return list[Limit]{into, false, "a limit", `"100 messages/hour"`, parseLimit, func(l Limit) string { return quote(l.String()) }}
}

// most is what the limit lets through in any window of another length.
func (l Limit) most(window time.Duration) int64 {
	times := int64((window + l.Window - 1) / l.Window)
	if l.Max > math.MaxInt64/times {
		return math.MaxInt64
	}
	return l.Max * times
}
