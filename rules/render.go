package rules

import (
	"fmt"
	"strings"
	"time"
)

// Render returns the table as "nft list table" prints it and "nft -f" loads it.
// Counters are shown as zero, dynamic sets and those of control groups as empty.
func (r Ruleset) Render() string {
	var blocks []string
	if r.Closing {
		blocks = append(blocks, renderClosing())
	}
	for _, c := range r.Counters {
		blocks = append(blocks, fmt.Sprintf("\tcounter %s {\n\t\tpackets 0 bytes 0\n\t}\n", c))
	}
	for _, s := range r.Sets {
		blocks = append(blocks, s.render())
	}
	for _, c := range r.Chains {
		blocks = append(blocks, c.render())
	}
	if r.Owned {
		blocks = append([]string{"\tflags owner\n"}, blocks...)
	}
	return fmt.Sprintf("table inet %s {\n%s}\n", r.Table, strings.Join(blocks, "\n"))
}

func (s Set) render() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n", s.Name, dataTypes(s.Key))
	if s.Size > 0 {
		fmt.Fprintf(&b, "\t\tsize %d\n", s.Size)
	}
	if s.Dynamic {
		b.WriteString("\t\tflags dynamic,timeout\n")
	}
	if s.Ranges {
		b.WriteString("\t\tflags interval\n")
	}
	if s.Counter {
		b.WriteString("\t\tcounter\n")
	}
	if s.Timeout > 0 {
		fmt.Fprintf(&b, "\t\ttimeout %s\n", duration(s.Timeout))
	}
	if len(s.Elements) > 0 && !s.isOfCGroups() {
		fmt.Fprintf(&b, "\t\telements = { %s }\n", renderElements(s.Elements))
	}
	b.WriteString("\t}\n")
	return b.String()
}

// isOfCGroups tells of sets whose elements nft writes as paths, which it may not
// be able to read again. They are shown as empty.
func (s Set) isOfCGroups() bool { return len(s.Key) == 1 && s.Key[0] == CGroup0 }

func dataTypes(key []Field) string {
	types := make([]string, len(key))
	for i, f := range key {
		types[i] = f.dataType()
	}
	return strings.Join(types, " . ")
}

// renderElements breaks lines as nft does: five ports or one pair a line.
func renderElements(elements []Element) string {
	var b strings.Builder
	for i, e := range elements {
		switch {
		case i == 0:
		case e.Addr.IsValid() || i%5 == 0:
			b.WriteString(",\n\t\t\t     ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(e.String())
	}
	return b.String()
}

// String returns the element as nft prints it.
func (e Element) String() string {
	if e.Addr.IsValid() {
		return fmt.Sprintf("%s . %d", e.Addr, e.Port)
	}
	if e.Last > e.ID {
		return fmt.Sprintf("%d-%d", e.ID, e.Last)
	}
	return fmt.Sprint(uint64(e.Port) | e.ID) // one of them is 0
}

func (c Chain) render() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
	if c.Base != nil {
		fmt.Fprintf(&b, "\t\t%s\n", c.Base)
	}
	for _, r := range c.Rules {
		fmt.Fprintf(&b, "\t\t%s\n", r)
	}
	b.WriteString("\t}\n")
	return b.String()
}

// String returns the hook as nft prints it.
func (b Base) String() string {
	priority := fmt.Sprint(b.Priority)
	// nft counts from a well-known priority as long as that is near.
	if b.Type == "filter" && b.Priority > 0 && b.Priority <= 10 {
		priority = fmt.Sprintf("filter + %d", b.Priority)
	}
	return fmt.Sprintf("type %s hook %s priority %s; policy %s;", b.Type, b.Hook, priority, b.Policy)
}

func (t Is) String() string {
	op := ""
	if t.Not {
		op = "!= "
	}
	value := fmt.Sprint(t.Value)
	switch {
	case t.Field == L4Proto && t.Value == protoTCP:
		value = "tcp"
	case (t.Field == IIF || t.Field == OIF) && t.Value == loopbackIndex:
		value = `"lo"`
	}
	return fmt.Sprintf("%s %s%s", t.Field, op, value)
}

func (t Within) String() string {
	if t.Prefix.IsSingleIP() {
		return fmt.Sprintf("%s %s", t.Field, t.Prefix.Addr())
	}
	return fmt.Sprintf("%s %s", t.Field, t.Prefix.Masked())
}

func (t Handshake) String() string {
	switch t.Step {
	case SYN:
		return "tcp flags syn / syn,ack"
	case SYNACK:
		return "tcp flags syn,ack / syn,ack"
	}
	return "tcp flags != syn / syn,ack"
}

func (t Renumbered) String() string { return "ct status snat" }

func (t LocalDestination) String() string { return "fib daddr type local" }

func (t FirstFragment) String() string { return "frag frag-off 0" }

func (t In) String() string { return fmt.Sprintf("%s @%s", concat(t.Key), t.Set) }

func (t InRanges) String() string { return fmt.Sprintf("%s @%s", t.Field, t.Set) }

func (t Update) String() string {
	timeout := ""
	if t.Timeout > 0 {
		timeout = " timeout " + duration(t.Timeout)
	}
	return fmt.Sprintf("update @%s { %s%s }", t.Set, concat(t.Key), timeout)
}

func (t Limit) String() string {
	return fmt.Sprintf("limit rate %d/second burst %d packets", t.Rate, t.Burst)
}

func (t Log) String() string {
	if t.Snap == 0 {
		return fmt.Sprintf("log prefix %q group %d", t.Prefix, t.Group)
	}
	return fmt.Sprintf("log prefix %q group %d snaplen %d", t.Prefix, t.Group, t.Snap)
}

func (t Count) String() string    { return fmt.Sprintf("counter name %q", t.Counter) }
func (t Redirect) String() string { return fmt.Sprintf("redirect to :%d", t.Port) }
func (t Reset) String() string    { return "reject with tcp reset" }
func (t Foreign) String() string  { return t.Description }

func (t Verdict) String() string {
	if t.Chain == "" {
		return string(t.Action)
	}
	return fmt.Sprintf("%s %s", t.Action, t.Chain)
}

func concat(key []Field) string {
	parts := make([]string, len(key))
	for i, f := range key {
		parts[i] = string(f)
	}
	return strings.Join(parts, " . ")
}

// duration writes a whole number of days, hours or minutes as nft does.
func duration(d time.Duration) string {
	switch day := 24 * time.Hour; {
	case d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}
