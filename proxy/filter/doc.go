// Package filter asks a mail filter (a milter: rspamd, opendkim, clamav-milter)
// about one message at a time, and gives back what it says: accept, reject,
// defer, discard or quarantine, and the message with its changes.
//
// It trusts a filter with the content and with the decision, not with the wire:
// its packets are bounded and checked before the library sees them, its replies
// and fields cannot begin another line, and a body that it replaces is made of
// lines that end in CRLF. Policy decided the envelope, so recipients that a
// filter adds or takes away and a sender that it changes are not followed, and
// said in the log. A filter that breaks a rule counts as away.
//
// A Filter is safe for concurrent use and makes one connection for each message.
// The reader of a verdict belongs to the one who got it.
//
// Standards: the milter protocol, versions 2 to 6, which has no text but
// sendmail's libmilter and the notes that emersion/go-milter brings along; it is
// followed as Postfix does. RFC 5322 (fields), RFC 5321 and RFC 3463 (replies).
//
// Not here: several filters in turn, and what a verdict means for a transaction
// (package proxy); where a filter is configured (internal/config).
package filter
