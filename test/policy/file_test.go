package policy_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/policy"
)

// file is one file of cases.
type file struct {
	config            string
	people            map[string]policy.Identity
	cases             []testCase
	problems, expects []problem
}

// problem is what the configuration must be told.
type problem struct{ head, words string }

// testCase is one line of a file.
type testCase struct {
	line                 int
	text                 string
	question             app.Question
	result, rule, reason string
}

// parseFile reads the sections of a file.
func parseFile(text string) (*file, error) {
	f := &file{people: map[string]policy.Identity{}}
	section := ""
	for i, line := range strings.Split(text, "\n") {
		if name, ok := strings.CutPrefix(line, "-- "); ok {
			section = strings.TrimSuffix(name, " --")
			continue
		}
		if section == "config" {
			f.config += line + "\n"
			continue
		}
		line, _, _ = strings.Cut(line, " #")
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if err := f.add(section, i+1, line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return f, nil
}

func (f *file) add(section string, number int, line string) error {
	words, err := split(line)
	if err != nil {
		return err
	}
	switch section {
	case "":
		return nil
	case "people":
		id, err := identity(words[1:])
		f.people[words[0].value] = id
		return err
	case "cases":
		c, err := f.parseCase(words)
		c.line, c.text = number, line
		f.cases = append(f.cases, c)
		return err
	case "problems":
		severity, rest, _ := strings.Cut(line, " ")
		at, rest, _ := strings.Cut(strings.TrimSpace(rest), " ")
		f.problems = append(f.problems, problem{severity + " " + at, strings.TrimSpace(rest)})
	case "expects":
		at, rest, _ := strings.Cut(line, " ")
		f.expects = append(f.expects, problem{"error " + at, strings.TrimSpace(rest)})
	default:
		return fmt.Errorf("unknown section %q", section)
	}
	return nil
}

// word is KEY=VALUE, or a value alone.
type word struct{ key, value string }

// split cuts a line into its words.
func split(line string) (words []word, err error) {
	for rest := strings.TrimSpace(line); rest != ""; rest = strings.TrimLeft(rest, " \t") {
		end := strings.IndexAny(rest, " \t\"")
		if end < 0 {
			end = len(rest)
		}
		text := rest[:end]
		rest = rest[end:]
		if strings.HasPrefix(rest, `"`) && strings.HasSuffix(text, "=") {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", rest, err)
			}
			value, _ := strconv.Unquote(quoted) // it is a prefix that can be
			words, rest = append(words, word{text[:len(text)-1], value}), rest[len(quoted):]
			continue
		}
		if text == "" { // a quote that begins no value
			text, rest = rest[:1], rest[1:]
		}
		if key, value, ok := strings.Cut(text, "="); ok {
			words = append(words, word{key, value})
		} else {
			words = append(words, word{"", text})
		}
	}
	return words, nil
}

func identity(words []word) (id policy.Identity, err error) {
	id.Placed = true
	for _, w := range words {
		switch w.key {
		case "uid":
			n, err := strconv.ParseUint(w.value, 10, 32)
			if err != nil {
				return id, err
			}
			id.Proven, id.UID = true, uint32(n)
		case "user":
			id.User = w.value
		case "groups":
			id.Groups = strings.Split(w.value, ",")
		case "unit":
			id.Unit = w.value
		case "container":
			id.Container = w.value
		case "account":
			id.Account = w.value
		case "placed":
			id.Placed = w.value != "no"
		default:
			return id, fmt.Errorf("unknown attribute %q", w.key)
		}
	}
	return id, nil
}

func (f *file) parseCase(words []word) (c testCase, err error) {
	id, known := f.people[words[0].value]
	if !known {
		return c, fmt.Errorf("who is %q", words[0].value)
	}
	c.question = app.Question{Identity: id, Listener: config.RoleSubmission, Time: time.Now()}
	i := 1
	for ; i < len(words) && words[i].key != ""; i++ {
		if err := c.ask(words[i]); err != nil {
			return c, err
		}
	}
	if len(words) < i+2 {
		return c, fmt.Errorf("no decision and rule")
	}
	c.result, c.rule = words[i].value, words[i+1].value
	var reason []string
	for _, w := range words[i+2:] {
		reason = append(reason, w.value)
	}
	c.reason = strings.Join(reason, " ")
	return c, nil
}

// ask takes one question of a case.
func (c *testCase) ask(w word) (err error) {
	q := &c.question
	switch w.key {
	case "at":
		q.Listener = config.ListenerRole(w.value)
	case "from":
		q.From = w.value
	case "to":
		q.To = append(q.To, w.value)
	case "header":
		q.Header = []byte(w.value)
	case "size":
		q.Size, err = strconv.ParseInt(w.value, 10, 64)
	case "time":
		q.Time, err = time.Parse(time.RFC3339, w.value)
	case "suspended":
		key, end, ends := strings.Cut(w.value, "@")
		s := limit.Suspension{Key: key}
		if ends {
			s.Until, err = time.Parse(time.RFC3339, end)
		}
		q.Suspensions = append(q.Suspensions, s)
	default:
		return fmt.Errorf("unknown question %q", w.key)
	}
	return err
}

func TestSplit(t *testing.T) {
	words, err := split(`www from=a@b header="From: \"x\" <a@b>\r\n" deny - From field missing`)
	if err != nil || fmt.Sprint(words) != fmt.Sprint([]word{{"", "www"}, {"from", "a@b"}, {"header", "From: \"x\" <a@b>\r\n"}, {"", "deny"}, {"", "-"}, {"", "From"}, {"", "field"}, {"", "missing"}}) {
		t.Errorf("%q, %v", words, err)
	}
	if _, err := split(`www header="x`); err == nil {
		t.Error("a quote without its end is taken")
	}
	for _, text := range []string{
		"-- cases --\nnobody allow -", "-- people --\nx y=z", "-- things --\nx", "-- people --\nx\n-- cases --\nx allow", "-- people --\nx uid=y",
		"-- people --\nx\n-- cases --\nx size=a allow -", "-- people --\nx\n-- cases --\nx who=a allow -",
	} {
		if _, err := parseFile(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
