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
