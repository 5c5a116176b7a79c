package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

const exampleIntro = "This is smtpwall's configuration as installed. It uses OBSERVE mode: nothing is blocked or redirected, and " +
	"`smtpwall log` shows what would be. To block, change mode to \"enforce\" below, then run `smtpwall check` and " +
	"`systemctl reload smtpwall`."

const exampleLegend = "Everything else is a comment. A line with # and no space after it is a key with its default, or with an example where it has " +
	"none; take the # away to change it. smtpwall.toml(5) explains more."

// exampleWidth is the length of comment lines.
const exampleWidth = 100

// WriteExample writes the installed configuration: the defaults, each key with
// its documentation.
func WriteExample(w io.Writer) error {
	out := bufio.NewWriter(w)
	comment(out, exampleIntro)
	fmt.Fprintln(out, "#")
	comment(out, exampleLegend)
	for _, s := range flatten(schema(Default())) {
		if s.later == "" {
			exampleSection(out, s)
		}
	}
	return out.Flush()
}

// exampleSection writes one table. Tables that one may have any number of, and
// those inside of others, are comments as a whole, since none is needed; so is
// every key but the mode, whose value everybody should see.
func exampleSection(out io.Writer, s section) {
	fmt.Fprintln(out)
	if s.name != "" {
		comment(out, s.doc)
		if s.shape != plain || strings.Contains(s.name, ".") {
			fmt.Fprint(out, "#")
		}
		fmt.Fprintln(out, strings.Replace(s.header(), "NAME", "main", 1))
	}
	for _, f := range s.fields {
		if _, hidden := f.binding.(later); hidden || f.instead {
			continue
		}
		comment(out, f.doc)
		for _, line := range choices(f.binding) {
			comment(out, line)
		}
		if s.name != "" {
			fmt.Fprint(out, "#")
		}
		fmt.Fprintf(out, "%s = %s\n", f.name, f.sample())
	}
}

// sample returns what the example shows: the default, or a likely value where
// there is none.
func (f field) sample() string {
	if f.example != "" {
		return f.example
	}
	return f.binding.show()
}

// choices returns one line for each word that may be written.
func choices(b binding) []string {
	c, ok := b.(chooser)
	if !ok {
		return nil
	}
	var lines []string
	for _, o := range c.choices() {
		if !o.later {
			lines = append(lines, fmt.Sprintf("  %q: %s", o.word, o.doc))
		}
	}
	return lines
}

// comment writes text as comment lines, wrapped; lines after the first keep its
// indentation.
func comment(out io.Writer, text string) {
	body := strings.TrimLeft(text, " ")
	indent := text[:len(text)-len(body)]
	for _, line := range wrap(body, exampleWidth-2-len(indent)) {
		fmt.Fprintln(out, "# "+indent+line)
	}
}

// wrap breaks text between words so that no line is longer than width, where
// words allow.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
