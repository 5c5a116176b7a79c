package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/smtpwall/smtpwall/proxy/spool"
)

// visible escapes what could steer a terminal, break a table or hide other text:
// all that these commands print may come from a stranger.
func visible(s string) string {
	if strings.IndexFunc(s, hidden) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if hidden(r) || r == utf8.RuneError && n == 1 {
			quoted := strconv.QuoteToASCII(s[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }

// shortened is a text that is visible, and not longer than most characters.
func shortened(s string, most int) string {
	runes := []rune(s)
	if len(runes) > most {
		s = string(runes[:most-1]) + "…"
	}
	return visible(s)
}

// spanText is a duration in its largest unit.
func spanText(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// sizeText is a number of octets with its unit.
func sizeText(octets int64) string {
	unit := 0
	value := float64(octets)
	for value >= 1024 && unit < 3 {
		value /= 1024
		unit++
	}
	name := []string{"B", "KiB", "MiB", "GiB"}[unit]
	if unit == 0 || value >= 10 {
		return fmt.Sprintf("%.0f %s", value, name)
	}
	return fmt.Sprintf("%.1f %s", value, name)
}

func countText(n int) string {
	if n == 1 {
		return "1 message"
	}
	return fmt.Sprintf("%d messages", n)
}

// timeText is a moment for people, in the clock's own zone.
func timeText(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }

// pathText is a reverse-path or recipient.
func pathText(address string) string {
	if address == "" {
		return "<>"
	}
	return visible(address)
}

// whoText is the identity in one word: the user's name says more than its number.
func whoText(id spool.Identity) string {
	key := id.Key()
	if id.User != "" && strings.HasPrefix(key, "uid:") {
		return visible(id.User)
	}
	return visible(key)
}

// recipientsText is the first that is not served yet, and how many more there are.
func recipientsText(item spool.Item) string {
	due := item.Recipients()
	if len(due) == 0 {
		return "-"
	}
	if len(due) == 1 {
		return pathText(due[0].Address)
	}
	return fmt.Sprintf("%s +%d", pathText(due[0].Address), len(due)-1)
}

// nextText is when the message is tried.
func nextText(item spool.Item, now time.Time) string {
	switch wait := item.Progress.Next.Sub(now); {
	case item.State == spool.Hold:
		return "-"
	case item.State == spool.Active, item.Progress.Next.IsZero(), wait <= 0:
		return "now"
	default:
		return "in " + spanText(wait)
	}
}

// whyText is why the message is here still: what holds it, which relay, what it said.
func whyText(item spool.Item) string {
	var parts []string
	for _, part := range []string{item.Progress.Hold, item.Progress.Relay, reason(item)} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ": ")
}

func reason(item spool.Item) string {
	if item.Progress.Reason != "" {
		return item.Progress.Reason
	}
	return item.Reason
}
