package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

const (
	// maxDirect is how many destinations somebody may have to be proposed for
	// direct connections: more is a mail server of its own.
	maxDirect = 5
	// maxRuleName is what a rule's name may have, in characters.
	maxRuleName = 64
	// maxUnits is how many units a comment names.
	maxUnits = 5
)

// proposal is TOML in the making.
type proposal struct {
	strings.Builder
	names map[string]bool // of rules, taken
	ruled bool            // there are rules already
}

// propose makes rules for who was seen, and entries for their direct
// connections. What is not needed, or better thought about, is in comments.
func propose(entries []Entry, rules []string) string {
	p := proposal{names: map[string]bool{}, ruled: len(rules) > 0}
	for _, name := range rules {
		p.names[name] = true
	}
	senders := group(entries)
	if len(senders) == 0 {
		return ""
	}
	p.line("# A proposal: whoever is named here may send. Read it first, and take out whom you do not know.")
	if !p.ruled {
		p.line("# Without any rule every local user may send; with these nobody else may:")
		p.line("# [policy]")
		p.line("# default = \"deny\"   # it is the default")
	}
	for i := range senders {
		p.rule(&senders[i])
	}
	p.direct(senders)
	return p.String()
}

func (p *proposal) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// sender is who a rule is for: entries that only their units tell apart.
type sender struct {
	Identity
	units      []string
	placed     bool // its unit was always known
	forwarded  bool
	refused    uint64
	redirected uint64
	submitted  uint64
	senders    []Count
	decision   *Decision // of the first entry that is not allowed, else any
	direct     []Destination
	others     uint64
}

// group makes the senders, in the order of their first entries. Who is only known
// by an address, or not at all, cannot be named in a rule.
func group(entries []Entry) []sender {
	var senders []sender
	at := map[Identity]int{}
	for i := range entries {
		e := &entries[i]
		if e.Kind == KindUnknown || e.Refused+e.Redirected+e.submissions() == 0 {
			continue
		}
		key := e.key()
		key.Unit = ""
		if _, known := at[key]; !known {
			at[key] = len(senders)
			senders = append(senders, sender{Identity: e.Identity, placed: true})
		}
		senders[at[key]].add(e)
	}
	return senders
}

func (s *sender) add(e *Entry) {
	if e.Unit == "" {
		s.placed = false
	} else if !slices.Contains(s.units, e.Unit) {
		s.units = append(s.units, e.Unit)
	}
	s.User = orElse(s.User, e.User)
	s.forwarded = s.forwarded || e.Forwarded
	s.refused += e.Refused
	s.redirected += e.Redirected
	s.submitted += e.submissions()
	s.others += e.Others
	if s.decision == nil || s.decision.Result == allowed {
		s.decision = e.Decision
	}
	for _, from := range e.Senders {
		i := slices.IndexFunc(s.senders, func(c Count) bool { return c.Name == from.Name })
		if i < 0 {
			s.senders = append(s.senders, from)
			continue
		}
		s.senders[i].Count += from.Count
	}
	for _, d := range e.Destinations {
		known := slices.ContainsFunc(s.direct, func(o Destination) bool { return o.Address == d.Address })
		if d.Fate != Allow && !known {
			s.direct = append(s.direct, d)
		}
	}
}

const allowed = "allow"

func orElse(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// rule writes the rule for a sender, or why there is none.
func (p *proposal) rule(s *sender) {
	p.line("")
	p.line("# %s: %s", s.title(), s.did())
	switch {
	case s.Kind == KindForwarded:
		p.line("# behind this host, so nobody vouches for it: it needs an [[account]], and listeners that it can reach.")
		return
	case p.ruled && s.decision != nil && s.decision.Result == allowed:
		p.line("# allowed already%s.", byRule(s.decision))
		return
	case p.ruled && s.decision != nil && s.decision.Rule != "":
		p.line("# now it is %s%s: a rule for it must stand before that one.", decided(s.decision.Result), byRule(s.decision))
	}
	if s.Kind == KindContainer {
		p.line("# its id is another one when it is made anew.")
		if s.forwarded {
			p.line("# what it dials is refused; mount listen.socket into it, then this rule is for it.")
		}
	}
	match, ok := s.match()
	if !ok {
		p.line("# a pattern cannot tell its name from others: match it by hand.")
		return
	}
	mark := ""
	if s.redirected+s.submitted == 0 {
		p.line("# it only dials what will be refused; once it submits to smtpwall it needs this:")
		mark = "# "
	}
	p.line("%s[[policy.rule]]", mark)
	p.line("%sname     = %s", mark, Quote(p.name(s)))
	p.line("%smatch    = %s", mark, match)
	if text := s.senderList(); text != "" {
		p.line("# senders  = %s", text)
	}
	p.line("%sdecision = \"allow\"", mark)
}

func byRule(d *Decision) string {
	if d.Rule == "" {
		return ""
	}
	return " by rule " + Quote(d.Rule)
}

func decided(result string) string {
	words := map[string]string{"deny": "denied", "defer": "deferred", "hold": "held", allowed: "allowed"}
	return orElse(words[result], "decided")
}

// title names a sender for people.
func (s *sender) title() string {
	switch s.Kind {
	case KindContainer:
		return "container " + Show(s.Container)
	case KindForwarded:
		return "address " + s.Source.String()
	case KindAccount:
		return "account " + Show(s.Account)
	}
	text := "uid " + s.UID.String()
	if s.User != "" {
		text = Show(s.User) + " (" + text + ")"
	}
	if len(s.units) == 0 {
		return text
	}
	shown := s.units[:min(len(s.units), maxUnits)]
	text += " in " + Show(strings.Join(shown, ", "))
	if more := len(s.units) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more units", more)
	}
	if !s.placed {
		text += ", or not known where"
	}
	return text
}

// did is what a sender did.
func (s *sender) did() string {
	var parts []string
	for _, part := range []struct {
		n          uint64
		what, rest string
	}{
		{s.redirected, "connection", " would be redirected"}, {s.refused, "connection", " refused"}, {s.submitted, "message", " submitted"},
	} {
		if part.n > 0 {
			parts = append(parts, count(part.n, part.what)+part.rest)
		}
	}
	return strings.Join(parts, ", ")
}

func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// match is the table of whom the rule is for. Root is anything that runs as
// root, so its units are named; another user's units may well be more than were
// seen. It is not ok if no pattern fits nobody else.
func (s *sender) match() (text string, ok bool) {
	switch s.Kind {
	case KindContainer:
		return "{ container = [" + Quote(s.Container) + "] }", isPlain(s.Container)
	case KindAccount:
		return "{ account = [" + Quote(s.Account) + "] }", isPlain(s.Account)
	}
	text = "uid = [" + s.UID.String() + "]"
	if isUser(s.User) {
		text = "user = [" + Quote(s.User) + "]"
	}
	if s.UID != audit.KnownUID(0) || !s.placed {
		return "{ " + text + " }", true
	}
	for _, unit := range s.units {
		if !isUnit(unit) {
			return "", false
		}
	}
	return "{ " + text + ", unit = [" + quoteAll(s.units) + "] }", true
}

// maxName is what a name of the configuration may have, in octets.
const maxName = 255

// isPlain says that a name stands for itself as a pattern.
func isPlain(name string) bool {
	return name != "" && len(name) <= maxName && !strings.ContainsAny(name, "*?") && !strings.ContainsFunc(name, hidden)
}

// isUser says that a name can be a user's (passwd(5)).
func isUser(name string) bool { return isPlain(name) && !strings.ContainsAny(name, ":/") }

// isUnit says that it is the name of a unit, or a pattern of ours.
func isUnit(name string) bool {
	return len(name) <= maxName && unitName.MatchString(name) && (isPlain(name) || unitPattern(strings.ReplaceAll(name, "*", "1")) == name || strings.HasSuffix(name, "@*.service"))
}

var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\@*-]+\.(service|scope|socket|mount|swap)$`)

// senderList are the domains that it sent from, if there are not too many to be
// its own.
func (s *sender) senderList() string {
	const most = 5
	if len(s.senders) == 0 || len(s.senders) > most {
		return ""
	}
	var names []string
	n := uint64(0)
	for _, c := range s.senders {
		own := domainPattern.MatchString(c.Name) && !strings.Contains(c.Name, "xn--")
		if !own && c.Name != audit.NullReversePath {
			return ""
		}
		names = append(names, c.Name)
		n += c.Count
	}
	return fmt.Sprintf("[%s]   # of %s", quoteAll(names), count(n, "message"))
}

// domainPattern is every address of one domain of ASCII labels.
var domainPattern = regexp.MustCompile(`^\*@([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}$`)

// name is a name for the rule that is not taken.
func (p *proposal) name(s *sender) string {
	text := s.User
	switch {
	case s.Kind == KindContainer:
		text = "container-" + s.Container[:min(len(s.Container), 12)]
	case s.Kind == KindAccount:
		text = s.Account
	case text == "":
		text = "uid-" + s.UID.String()
	}
	text = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r) {
			return r
		}
		return '-'
	}, text)
	text = text[:min(len(text), maxRuleName-len("-99999"))]
	name := text
	for i := 2; p.names[name]; i++ {
		name = fmt.Sprintf("%s-%d", text, i)
	}
	p.names[name] = true
	return name
}

// direct proposes entries for direct connections, all of them in comments: mail
// that can go through smtpwall should.
func (p *proposal) direct(senders []sender) {
	var blocks []string
	for i := range senders {
		if s := &senders[i]; s.Kind == KindUser && !s.forwarded {
			blocks = append(blocks, s.entries()...)
		}
	}
	if len(blocks) == 0 {
		return
	}
	p.line("")
	p.line("# Direct connections that could be left alone: they are neither attributed nor limited then. Take away the # only for what")
	p.line("# cannot go through smtpwall; one to a submission port is redirected otherwise, and needs nothing.")
	for _, block := range blocks {
		p.line("")
		p.WriteString(block)
	}
}

// entries are those of one sender, each a block of lines.
func (s *sender) entries() []string {
	var to []string
	for _, d := range s.direct {
		if d.Address.IsValid() && isWatched(d.Address.Port()) {
			to = append(to, d.Address.String())
		}
	}
	if len(to)+int(min(s.others, maxDirect+1)) > maxDirect {
		return []string{fmt.Sprintf("# %s: more than %d servers. So does a mail server that delivers by itself, which can have\n# smtpwall as its relay; and so does a spammer.\n", s.title(), maxDirect)}
	}
	var blocks []string
	for _, address := range to {
		blocks = append(blocks, fmt.Sprintf("# [[firewall.allow]]\n# %s\n# destination = %s\n", s.allowKey(), Quote(address)))
	}
	return blocks
}

func isWatched(port uint16) bool {
	return slices.Contains([]uint16{portSMTP, portSubmissions, portSubmission, portAlternate}, port)
}

// allowKey is who the entry is for: root's unit rather than root, if there is
// one alone.
func (s *sender) allowKey() string {
	if s.UID == audit.KnownUID(0) && s.placed && len(s.units) == 1 && isPlain(s.units[0]) && isUnit(s.units[0]) {
		return "unit = " + Quote(s.units[0])
	}
	if !isUser(s.User) {
		return "uid = " + s.UID.String()
	}
	return "user = " + Quote(s.User)
}
