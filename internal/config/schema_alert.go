package config

import (
	"slices"
	"strings"
	"time"
)

func filterSection() section {
	specimen := defaultFilter()
	return section{
		name:   "filter",
		shape:  repeated,
		doc:    "A milter, such as rspamd, that sees each message that policy lets pass, after the filters before it. It may refuse, change or hold it.",
		fields: filterFields(&specimen),
		open: func(d *decoder, _ string, at ref) []field {
			d.config.Filters = append(d.config.Filters, defaultFilter())
			d.filters = append(d.filters, at)
			return filterFields(&d.config.Filters[len(d.config.Filters)-1])
		},
	}
}

func filterFields(f *Filter) []field {
	return []field{
		{
			name:    "name",
			binding: text(&f.Name, "a name", "rspamd", checkName),
			doc:     "The filter's name, which events tell.",
			example: `"rspamd"`,
		}, {
			name:    "milter",
			binding: milterBinding{f},
			doc:     "Where it listens: \"unix:\" and an absolute path, or \"inet:\" and host:port. A socket in a directory of the filter's own is better than a port of this host, which any user can take while the filter is down.",
			example: `"unix:/run/rspamd/milter.sock"`,
		}, {
			name: "on_failure",
			binding: enum[FilterFailure]{&f.OnFailure, []option{
				{word: "defer", doc: "messages are refused with 451, and clients try again"},
				{word: "accept", doc: "messages pass without it"},
			}},
			doc: "What becomes of messages while it is away or too slow.",
		}, {
			name:    "timeout",
			binding: duration(&f.Timeout, time.Second, 10*time.Minute),
			doc:     "How long it may take for one message.",
		},
	}
}

// milterBinding binds a filter's network and address, which are one key.
type milterBinding struct{ filter *Filter }

const milterHint = `write milter = "unix:/run/rspamd/milter.sock" or "inet:127.0.0.1:11332"`

func (b milterBinding) decode(d *decoder, at place, v *value) {
	if v.kind != kindString {
		d.problem(v.line, at.key, flaw{"must be the address of a milter, not " + v.kind.String(), milterHint})
		return
	}
	network, address, err := parseMilter(v.text)
	if err != nil {
		d.problem(v.line, at.key, asFlaw(err))
		return
	}
	b.filter.Network, b.filter.Address = network, address
}

func (b milterBinding) describe() string {
	return `the address of a milter such as "unix:/run/rspamd/milter.sock" or "inet:127.0.0.1:11332"`
}

func (b milterBinding) show() string { return "" }

func alertSection() section {
	return section{
		name:  "alert",
		shape: repeated,
		doc: "Whom to tell what must not wait, by another way than mail: exec, a program and its arguments, or webhook. What happens again within ten minutes is one alert with a count. " +
			"docs/alerts.md describes what they get.",
		fields: alertFields(&Alert{}),
		open: func(d *decoder, _ string, at ref) []field {
			d.config.Alerts = append(d.config.Alerts, Alert{})
			d.alerts = append(d.alerts, at)
			return alertFields(&d.config.Alerts[len(d.config.Alerts)-1])
		},
	}
}

func alertFields(a *Alert) []field {
	return []field{
		{
			name:    "exec",
			binding: commandBinding{&a.Exec, "/usr/local/bin/alert"},
			doc:     "A program, by its absolute path, and its arguments. It gets the alert as JSON on its standard input and has half a minute; no shell is involved. It runs as the service's user, so nobody but root and that user may be able to replace it: the file, a directory on the way to it, or a link. That is looked at again before each run.",
			instead: true,
		}, {
			name:    "webhook",
			binding: text(&a.Webhook, "an https URL", "https://alerts.example.com/smtpwall", checkWebhook),
			doc:     "Where the alert is posted as JSON. Plain http is for a loopback address alone.",
			example: `"https://alerts.example.com/smtpwall"`,
		}, {
			name:    "secret",
			binding: secretBinding{&a.Secret},
			doc:     "The key that a webhook's signature is made with, HMAC-SHA-256 in Smtpwall-Signature. Its three forms are those of a relay's password.",
			example: `{ credential = "alert" }`,
		}, {
			name:    "ca",
			binding: text(&a.CAFile, "an absolute path", "/etc/smtpwall/alert-ca.pem", checkPath),
			doc:     "Authorities that may have signed the webhook's certificate, a PEM file. By default those of the system.",
			example: `"/etc/smtpwall/alert-ca.pem"`,
		}, {
			name: "events",
			binding: list[string]{&a.Events, false, "an event", `"breaker"`, parseEvent,
				func(event string) string { return quote(event) }},
			doc:     "What to tell: " + strings.Join(alertEvents, ", ") + ". By default all of it.",
			example: `["limit", "breaker", "suspension", "relay"]`,
		},
	}
}

// alertEvents are what alert.events may name.
var alertEvents = []string{AlertBlocked, AlertLimit, AlertBreaker, AlertSuspension, AlertDrift, AlertRelay,
	AlertCertificate, AlertSpool, AlertLogin, AlertMode}

// parseEvent reads the name of an event.
func parseEvent(text string) (string, error) {
	if slices.Contains(alertEvents, text) {
		return text, nil
	}
	return "", flaw{"unknown event " + quote(text), meant(text, alertEvents, "use "+alternatives(alertEvents))}
}
