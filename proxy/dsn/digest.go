package dsn

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Bounds of a digest.
const (
	MaxDigestLines = 500 // recipients that are described; the rest is counted
	maxIdentities  = 200 // that are counted one by one
	maxWords       = 300 // octets of a reply or a reason
)

// DigestLine is one recipient who was not reached, and whose sender was not told.
type DigestLine struct {
	Time        time.Time
	Txn         string
	Identity    string // whom policy judged: "uid 33 (www-data)"
	ReversePath string // empty is the null reverse-path
	Recipient   string
	Diagnostic  string // the last reply, or our own words on why it failed
	Reason      string // why no notice was sent
}

// Digest gathers for the administrator what no notice could be sent for. The
// zero value is empty. It is bounded, whatever is added.
type Digest struct {
	lines      []DigestLine
	recipients int
	messages   int
	lastTxn    string
	identities map[string]int // recipients of each; under otherIdentities when there are too many
}

const otherIdentities = "(others)"

// Add adds a line. Lines of one transaction come one after the other, as they
// count for one message.
func (d *Digest) Add(line DigestLine) {
	d.recipients++
	line = line.cleaned()
	if d.messages == 0 || line.Txn != d.lastTxn {
		d.messages++
	}
	d.lastTxn = line.Txn
	d.count(line.Identity)
	if len(d.lines) < MaxDigestLines {
		d.lines = append(d.lines, line)
	}
}

func (d *Digest) count(identity string) {
	if identity == "" {
		identity = "unknown"
	}
	if d.identities == nil {
		d.identities = map[string]int{}
	}
	if _, known := d.identities[identity]; !known && len(d.identities) >= maxIdentities {
		identity = otherIdentities
	}
	d.identities[identity]++
}

func (line DigestLine) cleaned() DigestLine {
	for _, field := range []*string{&line.Txn, &line.Identity, &line.ReversePath, &line.Recipient, &line.Diagnostic, &line.Reason} {
		*field = strings.Clone(clean(*field, maxWords))
	}
	return line
}

// Recipients is how many lines were added.
func (d *Digest) Recipients() int { return d.recipients }

// Compose makes the mail to the administrator. It is no notice, and the null
// reverse-path keeps it from being answered by one. The digest stays as it is.
// The error names what is not valid in the heading.
func (d *Digest) Compose(h Heading) (*Message, error) {
	l, err := newLetter(h)
	if err != nil {
		return nil, err
	}
	l.header(plural(d.messages, "message")+" not delivered, senders not told: "+l.Host, "auto-generated")
	return l.plain(l.textPart("", d.text(l.Host))), nil
}

func (d *Digest) text(host string) string {
	var p prose
	p.paragraph("", fmt.Sprintf("This is the mail system of %s. It gave up on %s of %s, and no notice went to the senders. "+
		"The audit log has each under its transaction.", host, plural(d.recipients, "recipient"), plural(d.messages, "message")))
	p.empty()
	d.table(&p)
	p.line("What happened:")
	for _, line := range d.lines {
		p.empty()
		line.write(&p)
	}
	if more := d.recipients - len(d.lines); more > 0 {
		p.empty()
		p.line("And " + plural(more, "more recipient") + ", in the audit log only.")
	}
	return p.String()
}

// table counts recipients by identity, most first.
func (d *Digest) table(p *prose) {
	type row struct {
		identity string
		count    int
	}
	var rows []row
	for identity, count := range d.identities {
		rows = append(rows, row{identity, count})
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.identity, b.identity))
	})
	p.line("Who sent them:")
	p.empty()
	w := tabwriter.NewWriter(p, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "recipients\t  identity\r\n")
	for _, r := range rows {
		fmt.Fprintf(w, "%d\t  %s\r\n", r.count, r.identity)
	}
	_ = w.Flush()
	p.empty()
}

func (line *DigestLine) write(p *prose) {
	p.line(strings.TrimSpace(line.Time.UTC().Format("2006-01-02 15:04:05 UTC") + "  " + line.Txn))
	detail := func(name, value string) {
		if strings.TrimSpace(value) != "" {
			p.paragraph("    ", name+": "+value)
		}
	}
	detail("identity", line.Identity)
	detail("from", "<"+line.ReversePath+">")
	detail("to", "<"+line.Recipient+">")
	detail("why", line.Diagnostic)
	detail("no notice", line.Reason)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
