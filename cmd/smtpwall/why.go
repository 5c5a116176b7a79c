package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// reckoning is all that is known of one transaction.
type reckoning struct {
	Txn    string        `json:"txn"`
	Events []audit.Event `json:"events"`
	Spool  *spool.Item   `json:"spool,omitempty"` // what of it waits still
	Today  *answer       `json:"today"`           // by the configuration as it is now
	// Notes say where today's decision rests on less than the one then did.
	Notes []string `json:"notes,omitempty"`
}

// whyCommand tells what became of a transaction, and why.
func whyCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("why")
	path := configFlag(set)
	asJSON := set.Bool("json", false, "print one JSON object")
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	id, err := onlyID(rest)
	if err != nil {
		return err
	}
	cfg, err := c.loadConfig(*path, config.Options{MissingOK: true, SkipSecrets: true})
	if err != nil {
		return err
	}
	events, err := c.findEvents(ctx, cfg.Audit.Directory, id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failed(err, "events are kept once smtpwall runs; their directory is audit.directory")
	case errors.Is(err, fs.ErrPermission):
		return failed(err, "run it as root, or as a member of the group smtpwall")
	case err != nil:
		return failed(err, "")
	case len(events) == 0:
		return failed(fmt.Errorf("%s: no such transaction in the audit log in %s", id, cfg.Audit.Directory),
			"it is under way still, its file was removed by rotation, or it is the id of a session: smtpwall log --id "+id)
	}
	r, q, err := reckon(ctx, cfg, id, events)
	if err != nil {
		return err
	}
	if *asJSON {
		return c.printJSON(r)
	}
	return c.printReckoning(r, q)
}

// onlyID reads the id as a reply shows it, with the bracket if that was copied.
func onlyID(rest []string) (string, error) {
	words := slices.DeleteFunc(strings.Fields(strings.NewReplacer("[", " ", "]", " ").Replace(strings.Join(rest, " "))),
		func(word string) bool { return word == "smtpwall" })
	if len(words) != 1 {
		return "", usageError("why needs the id of one transaction", "it stands in brackets at the end of a refusal, and in smtpwall log behind txn")
	}
	id := strings.ToUpper(words[0])
	if !isID(id) {
		return "", usageError(fmt.Sprintf("%q is no id of a transaction", words[0]), "ids have 26 letters and digits, such as 01J9ZJ7ZC4M3Y0T0S1V2W3X4Y5")
	}
	return id, nil
}

// reckon puts the same question to the configuration of today.
func reckon(ctx context.Context, cfg *config.Config, id string, events []audit.Event) (*reckoning, app.Question, error) {
	first := &events[0]
	q := app.Question{
		Identity: app.IdentityThen(first), Listener: config.ListenerRole(first.Listener),
		From: first.ReversePath, Size: first.Size, Time: time.Now(),
	}
	for _, rcpt := range first.Recipients {
		q.To = append(q.To, rcpt.Address)
	}
	r := &reckoning{Txn: id, Events: events}
	r.Spool, q.Header = keptMessage(ctx, cfg, id)
	standing, unknown := app.AskStanding(ctx, cfg, q)
	today, err := newAnswer(cfg, q, standing, unknown)
	if err != nil {
		return nil, q, err
	}
	r.Today = today
	r.note(&q)
	return r, q, nil
}

// keptMessage is a message that the spool still has, and its header section;
// nil if it has none, or we may not look.
func keptMessage(ctx context.Context, cfg *config.Config, id string) (*spool.Item, []byte) {
	queue, err := app.OpenQueue(ctx, cfg)
	if err != nil {
		return nil, nil
	}
	item, content, err := queue.Message(ctx, id)
	if err != nil {
		return nil, nil
	}
	defer content.Close()
	head, err := io.ReadAll(io.LimitReader(content, maxHeader))
	if err != nil {
		return &item, nil
	}
	return &item, headerSection(head)
}

// note says what the log does not tell.
func (r *reckoning) note(q *app.Question) {
	first := &r.Events[0]
	if first.Kind != audit.KindTransaction {
		r.Notes = append(r.Notes, "the event of the transaction itself is not in the log any more: this is from the tries to deliver it")
	}
	if first.RcptCount > len(first.Recipients) {
		r.Notes = append(r.Notes, fmt.Sprintf("the log has %d of %d recipients", len(first.Recipients), first.RcptCount))
	}
	result, _, _ := r.Today.transaction()
	if rule := r.Today.Decider(); q.Header == nil && rule != nil && checksHeader(rule) && result != policy.Deny.String() {
		r.Notes = append(r.Notes, "the From field is not in the log and so not looked at today; smtpwall test --message FILE does")
	}
	if q.Identity.Proven && len(q.Identity.Groups) == 0 {
		r.Notes = append(r.Notes, "the groups of that user are not known today")
	}
}

// printReckoning tells it to people, what happened first.
func (c *console) printReckoning(r *reckoning, q app.Question) error {
	first := &r.Events[0]
	fmt.Fprintf(c.out, "transaction %s\nidentity: %s\nlistener: %s\n", r.Txn, policyIdentityText(q.Identity), visible(first.Listener))
	fmt.Fprintln(c.out, "what happened:")
	for _, event := range r.Events {
		fmt.Fprintln(c.out, indented(audit.Text(event)))
	}
	if r.Spool != nil {
		fmt.Fprintf(c.out, "now in the spool: %s, next try: %s, %s\n", stateText(*r.Spool), nextText(*r.Spool, q.Time), visible(whyText(*r.Spool)))
	}
	fmt.Fprintln(c.out, "\nby the configuration of today")
	r.Today.print(c.out, q.Time)
	for _, note := range r.Notes {
		fmt.Fprintln(c.out, "note:", note)
	}
	_, err := fmt.Fprintln(c.out, r.verdict())
	return err
}

func indented(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// verdict compares the decision then with today's.
func (r *reckoning) verdict() string {
	today, first := "today "+r.Today.resultText(), &r.Events[0]
	if first.Kind != audit.KindTransaction || first.Decision == "" {
		return today
	}
	result, reason, partly := r.Today.transaction()
	if partly > 0 {
		today = fmt.Sprintf("today %s: %s, but for %d of the recipients", result, visible(reason), partly)
	}
	switch same := first.Decision == result || first.Reason == reason; {
	case first.Limit != "":
		return fmt.Sprintf("then %s: no room in the limit of %s\n%s", visible(first.Decision), visible(first.Limit), today)
	case !same:
		return fmt.Sprintf("then %s: %s\n%s\nwhat differs: the configuration, the identity, the room in limits, or something that is not in the log",
			visible(first.Decision), visible(first.Reason), today)
	case first.Decision == policy.Allow.String() && first.ReplyCode >= 400:
		return today + ", as then: what failed it was said by the relay, a filter or the client, see above"
	}
	return today + ", as then"
}
