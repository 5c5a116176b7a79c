package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// maxHeader bounds the header section that is shown; the proxy takes none that
// is longer.
const maxHeader = 256 << 10

// showQueued prints one message: all that is known of it, or its text.
func (c *console) showQueued(ctx context.Context, queue *app.Queue, o order) error {
	c.tellOffline(queue)
	id := o.filter.IDs[0]
	item, content, err := queue.Message(ctx, id)
	if errors.Is(err, spool.ErrUnknown) {
		return failed(fmt.Errorf("%s: no such message in the spool", visible(id)), "it may be delivered: smtpwall log --id "+visible(id))
	}
	if err != nil {
		return failed(err, "")
	}
	defer content.Close()
	if o.body {
		err = c.printMessage(content)
	} else {
		err = c.printKnown(item, content, o)
	}
	if err != nil {
		return failed(fmt.Errorf("reading message %s: %w", item.ID, err), "")
	}
	return nil
}

// printMessage prints the message to its last octet; on a terminal what could
// steer it is escaped.
func (c *console) printMessage(content io.Reader) error {
	if file, ok := c.out.(*os.File); !ok || !term.IsTerminal(int(file.Fd())) {
		_, err := io.Copy(c.out, content)
		return err
	}
	return eachLine(content, func(line string) error {
		_, err := fmt.Fprintln(c.out, visibleLine(line))
		return err
	})
}

// eachLine reads lines, or pieces of lines that are very long.
func eachLine(from io.Reader, fn func(string) error) error {
	for r := bufio.NewReaderSize(from, 64<<10); ; {
		piece, err := r.ReadSlice('\n')
		if len(piece) > 0 {
			if err := fn(strings.TrimRight(string(piece), "\r\n")); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// visibleLine keeps the tabs, which header fields are folded by.
func visibleLine(line string) string {
	parts := strings.Split(line, "\t")
	for i := range parts {
		parts[i] = visible(parts[i])
	}
	return strings.Join(parts, "\t")
}

// readHeader reads the header section (RFC 5322 section 2.1), without the line
// that ends it.
func readHeader(content io.Reader) (lines []string, err error) {
	errEnd := errors.New("end of the header section")
	err = eachLine(io.LimitReader(content, maxHeader), func(line string) error {
		if line == "" {
			return errEnd
		}
		lines = append(lines, line)
		return nil
	})
	if errors.Is(err, errEnd) {
		err = nil
	}
	return lines, err
}

// known is the JSON of show.
type known struct {
	listed
	HeaderSection []string `json:"header_section"` // its lines, not unfolded
}

func (c *console) printKnown(item spool.Item, content io.Reader, o order) error {
	header, err := readHeader(content)
	if err != nil {
		return err
	}
	if o.json {
		return c.printJSON(known{listed{item, expires(item, o.expire)}, header})
	}
	c.printItem(item, o.expire, time.Now())
	fmt.Fprintln(c.out, "\nheader section:")
	for _, line := range header {
		fmt.Fprintln(c.out, "  "+visibleLine(line))
	}
	return nil
}

// printItem prints what the spool knows, one fact a line.
func (c *console) printItem(item spool.Item, expire time.Duration, now time.Time) {
	facts := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	defer facts.Flush()
	fact := func(name, value string) {
		if value != "" {
			fmt.Fprintf(facts, "%s:\t%s\n", name, value)
		}
	}
	p := item.Progress
	fact("id", item.ID)
	fact("state", stateText(item))
	fact("came", timeText(item.Time)+", "+spanText(now.Sub(item.Time))+" ago")
	fact("size", sizeText(item.Size)+", "+sizeText(item.Stored)+" in the spool")
	fact("identity", identityText(item.Identity))
	fact("listener", visible(item.Identity.Listener))
	fact("reason", visible(reason(item)))
	fact("tries", triesText(item))
	if item.State == spool.Deferred {
		fact("next", nextText(item, now))
	}
	if end := expires(item, expire); !end.IsZero() {
		fact("expires", timeText(end)+", in "+spanText(end.Sub(now)))
	}
	if p.PossibleDuplicate {
		fact("duplicate", "possible: a try was cut short when the relay may have had the message")
	}
	if p.DelayTold {
		fact("delay notice", "sent")
	}
	fact("reverse-path", pathText(item.Envelope.ReversePath))
	for _, line := range recipientLines(item) {
		fact("recipient", line)
	}
}

func stateText(item spool.Item) string {
	if item.Progress.Hold != "" {
		return string(item.State) + " (" + visible(item.Progress.Hold) + ")"
	}
	return string(item.State)
}

// triesText is how often it was tried, when and by whom last.
func triesText(item spool.Item) string {
	p := item.Progress
	if p.Attempts == 0 {
		return "none yet"
	}
	text := fmt.Sprintf("%d, the last %s", p.Attempts, timeText(p.Time))
	if p.Relay != "" {
		text += " by relay " + visible(p.Relay)
	}
	return text
}

// identityText is every attribute that is known.
func identityText(id spool.Identity) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+" "+visible(value))
		}
	}
	add("user", id.User)
	if id.UID != nil {
		add("uid", fmt.Sprint(*id.UID))
	}
	add("unit", id.Unit)
	add("container", id.Container)
	add("account", id.Account)
	switch {
	case id.Notice:
		return "smtpwall itself: a notice"
	case len(parts) == 0:
		return "unknown"
	}
	return strings.Join(parts, ", ")
}

// recipientLines are all recipients, with what is left to do for each.
func recipientLines(item spool.Item) []string {
	due := map[int]spool.Due{}
	for _, d := range item.Progress.Rest {
		due[d.Rcpt] = d
	}
	var lines []string
	for i, to := range item.Envelope.Recipients {
		d, waits := due[i]
		line := pathText(to.Address)
		switch {
		case item.Progress.Rest == nil:
		case !waits:
			line += ", done with"
		case d.Failed:
			line += ", refused for good: " + visible(d.Reply)
		case d.Reply != "":
			line += ", " + visible(d.Reply)
		}
		lines = append(lines, line)
	}
	return lines
}
