package breaker

import (
	"strconv"
	"time"
)

// span says a duration as people do: "1 hour", "10 minutes", "36 hours".
func span(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if d%unit.length != 0 || d < unit.length {
			continue
		}
		if n := int64(d / unit.length); n != 1 {
			return strconv.FormatInt(n, 10) + " " + unit.name + "s"
		}
		return "1 " + unit.name
	}
	return d.String()
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
