package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// WriteManual writes the manual page smtpwall.toml(5) as man(7) source.
func WriteManual(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, `.\" Made by "go generate ./internal/config" from the documentation beside the fields. Do not edit.`)
	fmt.Fprintln(out, `.TH SMTPWALL.TOML 5 "" smtpwall "File formats"`)
	for _, part := range manualStart {
		part.write(out)
	}
	fmt.Fprintln(out, ".SH KEYS")
	for _, s := range flatten(schema(Default())) {
		if s.later == "" {
			manualSection(out, s)
		}
	}
	for _, part := range manualEnd {
		part.write(out)
	}
	return out.Flush()
}

// manualSection writes one table and its keys.
func manualSection(out io.Writer, s section) {
	title, doc := s.header(), s.doc
	if s.name == "" {
		title, doc = "Before the first table", "What the whole program does."
	}
	fmt.Fprintf(out, ".SS %s\n%s\n", roffArgument(title), roff(doc))
	for _, f := range s.fields {
		if _, hidden := f.binding.(later); !hidden {
			manualField(out, f)
		}
	}
}

// manualField writes one key: its documentation, what it takes, and its
// default.
func manualField(out io.Writer, f field) {
	fmt.Fprintf(out, ".TP\n.B %s\n%s\n", f.name, roff(f.doc))
	if c, ok := f.binding.(chooser); ok {
		manualChoices(out, c.choices())
	} else if g, ok := f.binding.(group); ok {
		fmt.Fprintf(out, ".br\nThe keys of the table:\n.RS\n")
		for _, inner := range g.fields {
			if _, hidden := inner.binding.(later); !hidden {
				manualField(out, inner)
			}
		}
		fmt.Fprintf(out, ".RE\n")
		return
	} else {
		fmt.Fprintf(out, ".br\nValue: %s.\n", roff(f.binding.describe()))
	}
	if shown := f.binding.show(); shown != "" && shown != "[]" {
		fmt.Fprintf(out, ".br\nDefault: %s.\n", roff(shown))
	}
}

// manualChoices writes the words of an enumeration.
func manualChoices(out io.Writer, options []option) {
	fmt.Fprintln(out, ".RS")
	for _, o := range options {
		if !o.later {
			fmt.Fprintf(out, ".IP %s 4\n%s\n", roffArgument(quote(o.word)), roff(o.doc))
		}
	}
	fmt.Fprintln(out, ".RE\n.IP")
}

// roff escapes text for a line of its own, and sets what stands between
// backticks in bold.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", `\[u2026]`).Replace(text)
	parts := strings.Split(text, "`")
	for i := 1; i < len(parts); i += 2 {
		parts[i] = `\fB` + parts[i] + `\fR`
	}
	text = strings.Join(parts, "")
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

// roffArgument escapes text for one argument of a macro.
func roffArgument(text string) string {
	return `"` + strings.ReplaceAll(roff(text), `"`, `\(dq`) + `"`
}

// manualPart is a section of prose. Lines that begin with a space are shown as
// they are.
type manualPart struct{ title, text string }

func (p manualPart) write(out io.Writer) {
	fmt.Fprintf(out, ".SH %s\n", roffArgument(p.title))
	literal := false
	for _, line := range strings.Split(strings.Trim(p.text, "\n"), "\n") {
		if shown := strings.HasPrefix(line, "  "); shown != literal {
			fmt.Fprintln(out, map[bool]string{true: ".PP\n.RS 4\n.nf", false: ".fi\n.RE"}[shown])
			literal = shown
		}
		if line == "" {
			fmt.Fprintln(out, ".PP")
			continue
		}
		fmt.Fprintln(out, roff(strings.TrimPrefix(line, "  ")))
	}
	if literal {
		fmt.Fprintln(out, ".fi\n.RE")
	}
}

var manualStart = []manualPart{
	{"NAME", `smtpwall.toml - configuration of the outbound mail firewall smtpwall`},
	{"SYNOPSIS", `/etc/smtpwall/smtpwall.toml`},
	{"DESCRIPTION", "The file is TOML. Every key has a safe default, and an empty file, or none, is a valid configuration: observe mode, loopback listeners, and mail held in the spool until a relay is configured. " +
		"Unknown keys are errors. `smtpwall check` reports everything that is wrong with the file in one run, and `systemctl reload smtpwall` refuses a file with errors and goes on with the one before.\n\n" +
		`Sizes and durations are strings with a unit: B, KiB, MiB, GiB, kB, MB, GB; ms, s, m, h, d. "1h30m" is a duration, and a day has 24 hours.` + "\n\n" +
		`In patterns * stands for any number of characters and ? for one. In a pattern for mail addresses neither reaches across the @, and case does not count.`},
	{"SECRETS", `A secret never stands in the file itself. Its place does, in one of three forms:

  { credential = "name" }    a credential that systemd passes
  { file = "/path" }         a regular file
  { env = "NAME" }           an environment variable

The packaged service passes each file of /etc/smtpwall/credentials as the credential of that name, and others by LoadCredentialEncrypted= in a drop-in; systemd reads them when the service starts.

A { file } must belong to root or to the user that reads it; others may neither read it nor write to it, its group may not write to it, and it must not be a symbolic link. One newline at its end is cut off. A secret is one line of at most 4096 bytes of UTF-8.`},
}

var manualEnd = []manualPart{
	{"EXAMPLE", `Everything from this host leaves through one relay; the sites may send for their domain, and the rest of the host for its own.

  mode = "enforce"

  [host]
  name = "vps1.example.net"

  [relay.main]
  address  = "smtp.example.com:587"
  username = "relay-user"
  password = { credential = "relay-main" }

  [[policy.rule]]
  name     = "sites"
  match    = { user = ["www-data", "site-*"] }
  senders  = ["*@example.com"]
  decision = "allow"

  [[policy.rule]]
  name     = "system"
  match    = { user = ["*"] }
  senders  = ["*@vps1.example.net"]
  decision = "allow"`},
	{"FILES", `/etc/smtpwall/smtpwall.toml

/etc/smtpwall/credentials

/var/lib/smtpwall/spool

/run/smtpwall/submit.sock, /run/smtpwall/admin.sock

/var/log/smtpwall/transactions.jsonl, /var/log/smtpwall/attempts.jsonl`},
	{"SEE ALSO", "systemd.exec(5) on credentials, nft(8), https://toml.io"},
}
