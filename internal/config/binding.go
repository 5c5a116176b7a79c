package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// place is where a key stands, for messages.
type place struct {
	key  string // dotted
	line int
}

// binding ties a key to the Go value that it fills.
type binding interface {
	// decode checks v and stores it, or reports why not.
	decode(d *decoder, at place, v *value)
	// describe says what may be written, as in `a size such as "50MiB"`.
	describe() string
	// show returns what is stored now as TOML, "" for nothing.
	show() string
}

// single fills one value from one string, number or boolean.
type single[T any] struct {
	into   *T
	kind   kind
	noun   string // "a size"
	sample string // in TOML
	parse  func(text string) (T, error)
	print  func(T) string // in TOML
}

func (b single[T]) decode(d *decoder, at place, v *value) {
	if v.kind != b.kind {
		d.problem(v.line, at.key, flaw{fmt.Sprintf("must be %s, not %s", b.noun, v.kind),
			fmt.Sprintf("write %s = %s", lastPart(at.key), b.sample)})
		return
	}
	parsed, err := b.parse(v.text)
	if err != nil {
		d.problem(v.line, at.key, asFlaw(err))
		return
	}
	*b.into = parsed
}

func (b single[T]) describe() string {
	if b.kind != kindString {
		return b.noun
	}
	return b.noun + " such as " + b.sample
}

func (b single[T]) show() string { return b.print(*b.into) }

// asFlaw returns err as a flaw, without a hint if it is none.
func asFlaw(err error) flaw {
	if f, ok := err.(flaw); ok {
		return f
	}
	return flaw{message: err.Error()}
}

// lastPart returns the last part of a dotted key.
func lastPart(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }

// quote writes text as a TOML basic string; none of our values needs more than
// Go's escapes for printable text.
func quote(text string) string { return strconv.Quote(text) }

// quoteSet is quote, but "" for the empty string, which stands for "not set".
func quoteSet(text string) string {
	if text == "" {
		return ""
	}
	return quote(text)
}

// text binds a string that check accepts.
func text(into *string, noun, sample string, check func(string) error) binding {
	return single[string]{into, kindString, noun, quote(sample), func(text string) (string, error) {
		return text, check(text)
	}, quoteSet}
}

// size binds a number of bytes between low and high.
func size(into *int64, low, high int64) binding {
	noun := fmt.Sprintf("a size from %s to %s", formatSize(low), formatSize(high))
	return single[int64]{into, kindString, noun, quote(formatSize(*into)), func(text string) (int64, error) {
		bytes, err := parseSize(text)
		if err == nil {
			err = within(bytes, low, high, formatSize)
		}
		return bytes, err
	}, func(bytes int64) string { return quote(formatSize(bytes)) }}
}

// duration binds a time span between low and high.
func duration(into *time.Duration, low, high time.Duration) binding {
	noun := fmt.Sprintf("a duration from %s to %s", formatDuration(low), formatDuration(high))
	return single[time.Duration]{into, kindString, noun, quote(formatDuration(*into)), func(text string) (time.Duration, error) {
		span, err := parseDuration(text)
		if err == nil {
			err = within(span, low, high, formatDuration)
		}
		return span, err
	}, func(span time.Duration) string { return quote(formatDuration(span)) }}
}

// rate binds a number of messages a second; 0 is no limit.
func rate(into *float64) binding {
	return single[float64]{into, kindString, "a rate", `"600 messages/minute"`, parseRate,
		func(perSecond float64) string { return quoteSet(formatRate(perSecond)) }}
}

// durationOrNone is duration for a key without a default, whose sample stands
// in hints.
func durationOrNone(into *time.Duration, low, high time.Duration, sample string) binding {
	b := duration(into, low, high).(single[time.Duration])
	shown := b.print
	b.sample, b.print = quote(sample), func(span time.Duration) string {
		if span == 0 {
			return ""
		}
		return shown(span)
	}
	return b
}

// moment binds a point in time.
func moment(into *time.Time) binding {
	return single[time.Time]{into, kindTime, "a time with its offset", "2027-01-31T00:00:00Z", parseTime, func(at time.Time) string {
		if at.IsZero() {
			return ""
		}
		return at.Format(time.RFC3339)
	}}
}

// number is what count binds.
type number interface{ int | int64 | uint16 | float64 }

// count binds a whole number between low and high.
func count[T number](into *T, low, high int64) binding {
	noun := fmt.Sprintf("a whole number from %d to %d", low, high)
	print := func(n T) string { return strconv.FormatInt(int64(n), 10) }
	return single[T]{into, kindInteger, noun, print(*into), func(text string) (T, error) {
		number, err := parseInteger(text)
		if err == nil {
			err = within(number, low, high, func(n int64) string { return strconv.FormatInt(n, 10) })
		}
		return T(number), err
	}, print}
}

// share binds a part of a whole, written in percent.
func share(into *float64) binding {
	return single[float64]{into, kindString, "a percentage", `"50%"`, parseShare, func(part float64) string {
		return quote(strconv.FormatFloat(100*part, 'f', -1, 64) + "%")
	}}
}

// truth binds true or false.
func truth(into *bool) binding {
	return single[bool]{into, kindBool, "true or false", strconv.FormatBool(*into), func(text string) (bool, error) {
		return text == "true", nil
	}, strconv.FormatBool}
}

// parseInteger reads a TOML integer, whose grammar the parser checked already.
func parseInteger(text string) (int64, error) {
	base := 10
	if len(text) > 1 && text[0] == '0' {
		base = 0 // 0x, 0o or 0b
	} else {
		text = strings.ReplaceAll(text, "_", "")
	}
	number, err := strconv.ParseInt(text, base, 64)
	if err != nil {
		return 0, flaw{"the number is too large", ""}
	}
	return number, nil
}

// within checks that value lies between low and high.
func within[T int64 | time.Duration](value, low, high T, format func(T) string) error {
	switch {
	case value < low:
		return flaw{fmt.Sprintf("%s is too small", format(value)), "the least is " + format(low)}
	case value > high:
		return flaw{fmt.Sprintf("%s is too large", format(value)), "the most is " + format(high)}
	}
	return nil
}
