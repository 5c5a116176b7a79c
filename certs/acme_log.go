package certs

import (
	"fmt"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newQuiet is a logger for certmagic: warnings and worse, but for what we tell ourselves. With n it also hears what each
// CA said, which certmagic tells by its log alone.
func newQuiet(logger *zap.Logger, n *acmeName) *zap.Logger {
	return atLeastWarn(logger).WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core { return &quietCore{core, n} }))
}

// quietCore stands before the core of the program log.
type quietCore struct {
	zapcore.Core
	name *acmeName // nil for what belongs to no name
}

// ownWords are certmagic's and acmez's messages for what attempts and conditions say once and better, and what is no
// trouble at all.
var ownWords = []string{
	"will retry", "final attempt; giving up", "job failed", "could not get certificate from issuer",
	"challenge failed", "validating authorization", "HTTP request failed; retrying",
	"final attempt; giving up until next scheduled renewal check finds the certificate still needs renewal",
	"ARI window or selected renewal time changed",
	"certificate is in emergency renewal window; superseding ARI", "certificate is in emergency renewal window; expiration imminent",
	"unable to obtain new to certificate after OCSP status of REVOKED; removing from cache",
	"OCSP status for managed certificate is REVOKED; attempting to replace with new certificate",
	"error while checking if stored certificate is also expiring soon", "deactivating authorization", "failed getting renewal information",
	"error getting ARI response", "failed updating renewal info from ACME CA", "updating ARI", "updating ARI upon managing",
}

// Enabled takes errors where the program log does not: an attempt's outcome is in some.
func (c *quietCore) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

func (c *quietCore) With(fields []zapcore.Field) zapcore.Core {
	return &quietCore{c.Core.With(fields), c.name}
}

func (c *quietCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(entry.Level) {
		return checked
	}
	// error is for what somebody must act upon, and that is in conditions
	entry.Level = min(entry.Level, zapcore.WarnLevel)
	return checked.AddCore(entry, c)
}

// Write hears one of ownWords and writes all else. What a CA sent stands in some fields, whole.
func (c *quietCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	if !slices.Contains(ownWords, entry.Message) {
		if !c.Core.Enabled(entry.Level) {
			return nil
		}
		return c.Core.Write(entry, bounded(fields))
	}
	if c.name == nil {
		return nil
	}
	if err := failure(fields); err != nil && entry.Message == "could not get certificate from issuer" {
		c.name.refused(text(fields, "issuer"), err)
	}
	return nil
}

// bounded are the fields with texts that fit into a line.
func bounded(fields []zapcore.Field) []zapcore.Field {
	fields = slices.Clone(fields)
	for i, f := range fields {
		var text string
		switch value := f.Interface.(type) {
		case error:
			text = value.Error()
		case nil:
			text = f.String
		default:
			text = fmt.Sprint(value)
		}
		if len(text) > maxWords {
			fields[i] = zap.String(f.Key, clean(text))
		}
	}
	return fields
}

func text(fields []zapcore.Field, key string) string {
	for _, f := range fields {
		if f.Key == key {
			return f.String
		}
	}
	return ""
}

func failure(fields []zapcore.Field) error {
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			return err
		}
	}
	return nil
}
