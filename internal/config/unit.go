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

// formatSize writes bytes in the largest binary unit that needs no fraction.
func formatSize(bytes int64) string {
	for _, unit := range sizeUnits[:4] {
		if bytes != 0 && bytes%unit.bytes == 0 {
			return strconv.FormatInt(bytes/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(bytes, 10) + "B"
}

// parseDuration reads a duration with its units, such as "10m" or "1h30m".
func parseDuration(text string) (time.Duration, error) {
	duration, err := time.ParseDuration(text)
	switch {
	case err == nil && duration >= 0:
		return duration, nil
	case strings.Trim(text, "0123456789.") == "" && text != "":
		return 0, flaw{fmt.Sprintf("%q is not a duration: it has no unit", text),
			`write a number and a unit, s, m or h: "10m"`}
	case strings.HasSuffix(text, "d"):
		return 0, flaw{fmt.Sprintf("%q is not a duration", text), `count in hours: "24h" is a day`}
	default:
		return 0, flaw{fmt.Sprintf("%q is not a duration", text), `write a number and a unit, s, m or h: "10m"`}
	}
}

// formatDuration writes a duration without the zero units that time.Duration
// shows: "5m", not "5m0s".
func formatDuration(duration time.Duration) string {
	text := duration.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
