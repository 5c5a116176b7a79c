package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf16"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// listQueue prints the messages, the oldest first. What could be read is
// printed before the error of what could not.
func (c *console) listQueue(ctx context.Context, queue *app.Queue, o order) error {
	c.tellOffline(queue)
	items, err := c.readQueue(ctx, queue, o.filter)
	slices.SortFunc(items, func(a, b spool.Item) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID))
	})
	printErr := c.printItems(items, o)
	switch {
	case err != nil:
		return failed(err, "")
	case printErr != nil:
		return failed(printErr, "")
	case !o.json:
		fmt.Fprintln(c.err, tally(items))
	}
	return c.missing(o.filter.IDs, items)
}

// tellOffline says that what is printed is what the files say.
func (c *console) tellOffline(queue *app.Queue) {
	if err := queue.Offline(); err != nil {
		fmt.Fprintf(c.err, "smtpwall: %v: this is what the spool's files say\n", err)
	}
}

// readQueue collects the messages, with a count of them where it takes time.
func (c *console) readQueue(ctx context.Context, queue *app.Queue, f spool.Filter) ([]spool.Item, error) {
	bar := c.progress("reading messages")
	defer bar.end()
	var items []spool.Item
	err := queue.Items(ctx, f, func(item spool.Item) error {
		items = append(items, item)
		bar.set(len(items), 0)
		return nil
	})
	return items, err
}

// missing says which of the ids that were asked for have no message.
func (c *console) missing(ids []string, items []spool.Item) error {
	found := make(map[string]bool, len(items))
	for _, item := range items {
		found[item.ID] = true
	}
	var absent []string
	for _, id := range ids {
		if !found[id] {
			absent = append(absent, id)
		}
	}
	if len(absent) == 0 {
		return nil
	}
	for _, id := range absent[:min(len(absent), maxQueueErrors)] {
		fmt.Fprintf(c.err, "smtpwall: error: %s: no such message here\n", visible(id))
	}
	return &userError{status: exitFailed, quiet: true, message: "messages are missing"}
}

func (c *console) printItems(items []spool.Item, o order) error {
	if o.json {
		for _, item := range items {
			if err := c.printJSON(listed{item, expires(item, o.expire)}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(items) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	then := "NEXT"
	if slices.Contains(o.states, spool.Hold) {
		then = "EXPIRES"
	}
	fmt.Fprintln(table, "ID\tSTATE\tAGE\tSIZE\tTRIES\t"+then+"\tIDENTITY\tREVERSE-PATH\tRECIPIENTS\tREASON")
	now := time.Now()
	for _, item := range items {
		fmt.Fprintln(table, strings.Join(cells(item, o.expire, now), "\t"))
	}
	return table.Flush()
}

// listed is the JSON of a message in a list.
type listed struct {
	spool.Item
	Expires time.Time `json:"expires,omitzero"` // of what is in hold
}

// expires is when a held message is given up; zero is never.
func expires(item spool.Item, after time.Duration) time.Time {
	if item.State != spool.Hold || item.Progress.Hold == spool.HoldNoRelay || after <= 0 {
		return time.Time{}
	}
	return item.Time.Add(after)
}

func cells(item spool.Item, expire time.Duration, now time.Time) []string {
	then := nextText(item, now)
	if end := expires(item, expire); !end.IsZero() {
		then = "in " + spanText(end.Sub(now))
	}
	return []string{
		item.ID, string(item.State), spanText(now.Sub(item.Time)), sizeText(item.Size), fmt.Sprint(item.Progress.Attempts),
		then, whoText(item.Identity), pathText(item.Envelope.ReversePath), recipientsText(item), shortened(whyText(item), maxReason),
	}
}

// maxReason is how much of a reason the table has room for, in characters.
const maxReason = 200

// tally is how many messages there are, and how much.
func tally(items []spool.Item) string {
	if len(items) == 0 {
		return "no messages"
	}
	var octets int64
	for _, item := range items {
		octets += item.Size
	}
	return countText(len(items)) + ", " + sizeText(octets)
}

// printJSON prints a value in one line, with its "<" left to read, and with
// what could steer a terminal escaped: JSON itself lets U+009B pass.
func (c *console) printJSON(value any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	var line strings.Builder
	for _, r := range strings.TrimSuffix(text.String(), "\n") {
		if !hidden(r) {
			line.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) { // it stands in a string, which is where JSON has such
			fmt.Fprintf(&line, "\\u%04x", unit)
		}
	}
	_, err := fmt.Fprintln(c.out, line.String())
	return err
}
