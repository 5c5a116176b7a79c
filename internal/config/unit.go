package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// units of sizes, the largest first. The decimal ones are IEC 80000-13's, too.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// parseSize reads a size with its unit, such as "50MiB" or "1.5 GiB", in bytes.
func parseSize(text string) (int64, error) {
	malformed := flaw{fmt.Sprintf("%q is not a size", text), `write a number and a unit, B, KiB, MiB or GiB: "50MiB"`}
	digits := strings.TrimRight(text, "BGKMTik ")
	name := strings.TrimSpace(text[len(digits):])
	number, err := strconv.ParseFloat(digits, 64)
	if err != nil || strings.Trim(digits, "0123456789.") != "" {
		return 0, malformed
	}
	for _, unit := range sizeUnits {
		if unit.name != name {
			continue
		}
		size := number * float64(unit.bytes)
		if size >= math.MaxInt64 || size != math.Trunc(size) {
			return 0, malformed
		}
		return int64(size), nil
	}
	if name == "" {
		malformed.message += ": it has no unit"
	}
	return 0, malformed
}

// formatSize writes bytes in the largest unit that needs no fraction, binary ones
// first, as package proxy/limit does.
func formatSize(bytes int64) string {
	for _, unit := range sizeUnits {
		if bytes != 0 && bytes%unit.bytes == 0 {
			return strconv.FormatInt(bytes/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(bytes, 10) + "B"
}

// day is the longest unit of durations: 24 hours, whatever the calendar says.
const day = 24 * time.Hour

// parseDuration reads a duration with its units, such as "10m", "1h30m" or "5d".
func parseDuration(text string) (time.Duration, error) {
	duration, err := time.ParseDuration(text)
	if days, rest, found := strings.Cut(text, "d"); found {
		duration, err = parseDays(days, rest)
	}
	switch {
	case err == nil && duration >= 0: // a sum that is too large is negative
		return duration, nil
	case strings.Trim(text, "0123456789.") == "" && text != "":
		return 0, flaw{fmt.Sprintf("%q is not a duration: it has no unit", text), durationHint}
	default:
		return 0, flaw{fmt.Sprintf("%q is not a duration", text), durationHint}
	}
}

// parseDays adds whole days to a shorter duration, which may be "".
func parseDays(days, rest string) (time.Duration, error) {
	whole, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, err
	}
	part, err := time.ParseDuration("0h" + rest) // which takes no sign here, and no number without a unit
	return time.Duration(whole)*day + part, err
}

const durationHint = `write a number and a unit, s, m, h or d: "10m"`

// formatDuration writes a duration without the zero units that time.Duration
// shows: "5m", not "5m0s". Several days are counted as such: "5d".
func formatDuration(duration time.Duration) string {
	if duration > day && duration%day == 0 {
		return strconv.FormatInt(int64(duration/day), 10) + "d"
	}
	text := duration.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// spans are the windows of a rate.
var spans = []struct {
	name string
	span time.Duration
}{{"second", time.Second}, {"minute", time.Minute}, {"hour", time.Hour}, {"day", day}}

// maxRate is far more than any relay takes, in messages a second.
const maxRate = 1_000_000

// parseRate reads a number of messages in a span of time, such as "600
// messages/minute", as messages a second.
func parseRate(text string) (float64, error) {
	malformed := flaw{fmt.Sprintf("%q is not a rate", text), `write messages per second, minute, hour or day: "600 messages/minute"`}
	digits, unit, _ := strings.Cut(text, " ")
	noun, window, _ := strings.Cut(strings.TrimSpace(unit), "/")
	number, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || noun != "messages" && noun != "message" {
		return 0, malformed
	}
	for _, s := range spans {
		switch perSecond := float64(number) / s.span.Seconds(); {
		case s.name != window:
		case number == 0:
			return 0, flaw{"with a rate of 0 nothing would ever be sent", "remove it for no limit, or remove the relay"}
		case perSecond > maxRate:
			return 0, flaw{fmt.Sprintf("%q is too large", text), "remove it for no limit"}
		default:
			return perSecond, nil
		}
	}
	return 0, malformed
}

// formatRate writes messages a second by the shortest span that they are a
// whole number of, "" for 0.
func formatRate(perSecond float64) string {
	for _, s := range spans {
		number := math.Round(perSecond * s.span.Seconds())
		if number >= 1 && number/s.span.Seconds() == perSecond {
			return fmt.Sprintf("%.0f messages/%s", number, s.name)
		}
	}
	return ""
}

// parseShare reads a percentage such as "50%" as a part of 1.
func parseShare(text string) (float64, error) {
	digits, ok := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseUint(digits, 10, 16)
	switch {
	case !ok || err != nil:
		return 0, flaw{fmt.Sprintf("%q is not a percentage", text), `write a whole number and %: "50%"`}
	case percent < 1 || percent > 100:
		return 0, flaw{fmt.Sprintf("%q is not from 1%% to 100%%", text), `write a whole number and %: "50%"`}
	}
	return float64(percent) / 100, nil
}

// parseTime reads an offset date-time of TOML, which allows a space for the T
// of RFC 3339.
func parseTime(text string) (time.Time, error) {
	if len(text) > 10 && text[10] == ' ' {
		text = text[:10] + "T" + text[11:]
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, flaw{fmt.Sprintf("%q is not a time", text), "write 2027-01-31T00:00:00Z"}
	}
	return at.UTC(), nil
}
