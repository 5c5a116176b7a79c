package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

const (
	// maxQueueErrors is how many messages that could not be changed are named.
	maxQueueErrors = 20
	// maxBatch is how many ids go to the proxy at a time.
	maxBatch = 10_000
)

// changeQueue retries, releases or drops.
func (c *console) changeQueue(ctx context.Context, queue *app.Queue, o order) error {
	work := change{op: o.op()}
	if o.op() == admin.Drop && len(o.filter.IDs) == 0 {
		// What a person has agreed to is dropped, and nothing that came since.
		ids, err := c.agree(ctx, queue, o)
		if err != nil || len(ids) == 0 {
			return err
		}
		o.filter = spool.Filter{States: o.states, IDs: ids}
		work.loose = true
	}
	// From here on Ctrl-C leaves the rest as it is, and says so.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := c.change(ctx, queue, o, &work)
	return c.tellChange(o, &work, err)
}

// agree counts what would be dropped, and has a person agree to it.
func (c *console) agree(ctx context.Context, queue *app.Queue, o order) (ids []string, err error) {
	items, err := c.readQueue(ctx, queue, o.filter)
	if err != nil {
		return nil, failed(err, "nothing was dropped")
	}
	if len(items) == 0 {
		fmt.Fprintln(c.err, "no messages")
		return nil, nil
	}
	switch {
	case o.yes:
		fmt.Fprintf(c.err, "dropping %s\n", tally(items))
	case !c.interactive():
		return nil, usageError(countText(len(items))+" would be dropped, and there is nobody to ask", "--yes drops them")
	default:
		if err := c.ask("Drop "+tally(items)+"? Nobody will be told.", "nothing was dropped"); err != nil {
			return nil, err
		}
	}
	for _, item := range items {
		ids = append(ids, item.ID)
	}
	return ids, nil
}

// interactive says that there is a person to ask.
func (c *console) interactive() bool {
	file, ok := c.in.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// ask wants a y. Anything else is no, an error with the words for that.
func (c *console) ask(question, no string) error {
	fmt.Fprintf(c.err, "%s [y/N] ", question)
	answer, err := bufio.NewReader(io.LimitReader(c.in, 256)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return failed(fmt.Errorf("reading the answer: %w", err), "")
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return failed(errors.New(no), "")
	}
	return nil
}

// change is the work on an order, and what has come of it.
type change struct {
	op     admin.Op
	loose  bool // a message that is gone meanwhile is none the worse
	done   int
	gone   int
	errors []admin.Outcome
}

// change gives the order to the proxy, ids in batches.
func (c *console) change(ctx context.Context, queue *app.Queue, o order, work *change) error {
	bar := c.progress(map[admin.Op]string{admin.Retry: "retrying", admin.Drop: "dropping", admin.Release: "releasing"}[work.op])
	defer bar.end()
	var printErr error
	note := func(outcome admin.Outcome, total int) {
		work.add(outcome)
		bar.set(work.done+work.gone+len(work.errors), total)
		if o.json && printErr == nil {
			printErr = c.printJSON(struct {
				ID    string `json:"id"`
				Error string `json:"error,omitempty"`
			}{outcome.ID, plain(outcome.Error)})
		}
	}
	if len(o.filter.IDs) == 0 {
		err := queue.Act(ctx, work.op, o.filter, func(outcome admin.Outcome) { note(outcome, outcome.Total) })
		return errors.Join(err, printErr)
	}
	f, ids := o.filter, o.filter.IDs
	for batch := range slices.Chunk(ids, maxBatch) {
		f.IDs = batch
		if err := queue.Act(ctx, work.op, f, func(outcome admin.Outcome) { note(outcome, len(ids)) }); err != nil {
			return err
		}
	}
	return printErr
}

func (w *change) add(outcome admin.Outcome) {
	outcome.Error = plain(outcome.Error)
	switch {
	case outcome.Error == "":
		w.done++
	case w.loose && strings.HasSuffix(outcome.Error, plain(spool.ErrUnknown.Error())):
		w.gone++
	default:
		w.errors = append(w.errors, outcome)
	}
}

// plain is an error without what the file system said beside it.
func plain(text string) string { return strings.TrimSuffix(text, ": "+fs.ErrNotExist.Error()) }

// tellChange says what was done and what was not.
func (c *console) tellChange(o order, work *change, err error) error {
	for _, outcome := range work.errors[:min(len(work.errors), maxQueueErrors)] {
		fmt.Fprintf(c.err, "smtpwall: error: %s: %s\n", visible(outcome.ID), visible(outcome.Error))
	}
	done := map[admin.Op]string{
		admin.Retry: "due at once", admin.Drop: "dropped", admin.Release: "released, due at once",
	}[work.op]
	fmt.Fprintf(c.err, "%s %s\n", countText(work.done), done)
	if work.gone > 0 {
		fmt.Fprintf(c.err, "%s gone before\n", countText(work.gone))
	}
	switch {
	case errors.Is(err, context.Canceled):
		return failed(errors.New("stopped, the others are as they were"), "")
	case err != nil:
		return failed(err, "")
	case len(work.errors) > 0:
		return &userError{
			status: exitFailed, message: countText(len(work.errors)) + " could not be changed",
			hint: "smtpwall " + o.name + " list shows what is there",
		}
	}
	return nil
}
