package app

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// safeCore makes what strangers can choose (the path of a program, the words of
// a relay) visible before it is logged: zap escapes what would break its JSON,
// which leaves characters that steer a terminal.
type safeCore struct{ zapcore.Core }

// With is zapcore.Core.
func (c safeCore) With(fields []zapcore.Field) zapcore.Core {
	return safeCore{c.Core.With(visibleFields(fields))}
}

// Check is zapcore.Core.
func (c safeCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write is zapcore.Core.
func (c safeCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	return c.Core.Write(entry, visibleFields(fields))
}

func visibleFields(fields []zapcore.Field) []zapcore.Field {
	safe := make([]zapcore.Field, len(fields))
	for i, field := range fields {
		safe[i] = visibleField(field)
	}
	return safe
}

func visibleField(field zapcore.Field) zapcore.Field {
	switch field.Type {
	case zapcore.StringType:
		field.String = visible(field.String)
	case zapcore.ErrorType:
		if err, ok := field.Interface.(error); ok {
			return zap.String(field.Key, visible(err.Error()))
		}
	case zapcore.StringerType:
		if text, ok := field.Interface.(fmt.Stringer); ok {
			return zap.String(field.Key, visible(text.String()))
		}
	}
	return field
}

// visible escapes what is not printable, line ends but not spaces included.
func visible(text string) string {
	if strings.IndexFunc(text, invisible) < 0 {
		return text
	}
	var safe strings.Builder
	for _, r := range text {
		if invisible(r) {
			safe.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
			continue
		}
		safe.WriteRune(r)
	}
	return safe.String()
}

func invisible(r rune) bool { return !unicode.IsPrint(r) }
