package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// testOrder is one command line of test.
type testOrder struct {
	config, as, account, unit, container string
	listener, from, headerFrom, message  string
	at                                   string
	to                                   words
	json                                 bool
}

// words is a flag that may be given more than once.
type words []string

func (w *words) String() string { return strings.Join(*w, ",") }

// Set implements flag.Value.
func (w *words) Set(text string) error {
	*w = append(*w, text)
	return nil
}

// testCommand decides about a message that nobody sends. It fails if that is
// not simply allowed.
func testCommand(ctx context.Context, c *console, args []string) error {
	var o testOrder
	set := c.flags("test")
	o.define(set)
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	if err := noArguments(rest); err != nil {
		return err
	}
	q, err := c.question(&o)
	if err != nil {
		return err
	}
	cfg, err := c.loadConfig(o.config, config.Options{MissingOK: true, SkipSecrets: true})
	if err != nil {
		return err
	}
	standing, unknown := app.AskStanding(ctx, cfg, q)
	a, err := newAnswer(cfg, q, standing, unknown)
	if err != nil {
		return err
	}
	if err := c.printTested(a, &q, o.json); err != nil {
		return failed(err, "")
	}
	if a.Result != policy.Allow.String() {
		return &userError{status: exitFailed, quiet: true, message: a.Reason}
	}
	return nil
}

// printTested prints the answer, its result last.
func (c *console) printTested(a *answer, q *app.Question, asJSON bool) error {
	if asJSON {
		return c.printJSON(a)
	}
	fmt.Fprintf(c.out, "identity: %s\nlistener: %s\n", policyIdentityText(q.Identity), q.Listener)
	a.print(c.out, q.Time)
	_, err := fmt.Fprintln(c.out, a.resultText())
	return err
}

func (o *testOrder) define(set *flag.FlagSet) {
	set.StringVar(&o.config, "config", config.DefaultPath, "the configuration `FILE`")
	set.StringVar(&o.as, "as", "", "`WHO` sends: a user, uid:N, account:NAME, or unknown")
	set.StringVar(&o.account, "account", "", "who has logged in to this `ACCOUNT`")
	set.StringVar(&o.unit, "unit", "", "from this systemd `UNIT`")
	set.StringVar(&o.container, "container", "", "from the container of this `ID`")
	set.StringVar(&o.listener, "listener", string(config.RoleSubmission), "at this `LISTENER`: submission, submissions, alternate, intercepted or socket")
	set.StringVar(&o.from, "from", "", "the reverse-path `ADDRESS`; <> is the null one")
	set.Var(&o.to, "to", "a recipient's `ADDRESS`; may be given more than once")
	set.StringVar(&o.headerFrom, "header-from", "", "the `ADDRESS` in the From field")
	set.StringVar(&o.message, "message", "", "the `FILE` of the message, - for standard input: its From field and size are looked at")
	set.StringVar(&o.at, "time", "", "the `TIME` to decide for, such as 2027-01-31T08:00:00Z; by default now")
	set.BoolVar(&o.json, "json", false, "print one JSON object")
}

// question reads what is asked.
func (c *console) question(o *testOrder) (q app.Question, err error) {
	if q.Identity, err = o.identity(); err != nil {
		return q, err
	}
	if q.Listener, err = listenerRole(o.listener); err != nil {
		return q, err
	}
	if q.From, q.To, err = o.paths(); err != nil {
		return q, err
	}
	if q.Time = time.Now(); o.at != "" {
		if q.Time, err = time.Parse(time.RFC3339, o.at); err != nil {
			return q, usageError(fmt.Sprintf("%q is no time", o.at), "write --time 2027-01-31T08:00:00Z, or with +01:00 for the Z")
		}
	}
	switch {
	case o.message != "" && o.headerFrom != "":
		return q, usageError("--message has a From field of its own", "leave out --header-from")
	case o.headerFrom != "":
		q.Header = []byte("From: " + o.headerFrom + "\r\n")
	case o.message != "":
		q.Header, q.Size, err = c.readMessage(o.message)
	}
	return q, err
}

// identity puts --as together with what stands beside it.
func (o *testOrder) identity() (policy.Identity, error) {
	if o.as+o.account+o.unit+o.container == "" {
		return policy.Identity{}, usageError("test needs to know who sends", "say --as www-data, --as uid:33, --as account:webshop or --as unknown")
	}
	var who app.Who
	if o.as != "" {
		var err error
		if who, err = app.ParseWho(o.as); err != nil {
			return policy.Identity{}, usageError("--as: "+err.Error(), "say --as www-data, --as uid:33, --as account:webshop or --as unknown")
		}
	}
	for _, part := range []struct {
		flag, said string
		value      *string
	}{{"--account", o.account, &who.Account}, {"--unit", o.unit, &who.Unit}, {"--container", o.container, &who.Container}} {
		if part.said != "" && *part.value != "" {
			return policy.Identity{}, usageError(part.flag+" is said twice", "--as names it too")
		}
		if part.said != "" {
			*part.value = part.said
		}
	}
	id, err := who.Identity()
	if errors.Is(err, app.ErrNoUser) {
		return id, usageError(err.Error(), "check the spelling; uid:N asks for a user without a name")
	}
	return id, err
}

func listenerRole(text string) (config.ListenerRole, error) {
	roles := []config.ListenerRole{config.RoleSubmission, config.RoleSubmissions, config.RoleAlternate, config.RoleIntercepted, config.RoleSocket}
	role := config.ListenerRole(text)
	if !slices.Contains(roles, role) {
		return "", usageError(fmt.Sprintf("there is no listener %q", text), "submission, submissions, alternate, intercepted or socket")
	}
	return role, nil
}

// paths are the addresses of the envelope, which must be such as a client could
// send.
func (o *testOrder) paths() (from string, to []string, err error) {
	all := smtp.Capabilities{UTF8: true}
	if from = o.from; from != "" && from != audit.NullReversePath {
		if from, _, err = smtp.ParseMail("FROM:<"+from+"> SMTPUTF8", all); err != nil {
			return "", nil, badAddress("--from", o.from)
		}
	}
	for _, address := range o.to {
		rcpt, err := smtp.ParseRcpt("TO:<"+address+">", all, true)
		if err != nil {
			return "", nil, badAddress("--to", address)
		}
		to = append(to, rcpt.Address)
	}
	return from, to, nil
}

func badAddress(flag, address string) error {
	return usageError(fmt.Sprintf("%s: %q is no address", flag, address), "write local@domain, without angle brackets")
}

// maxTested bounds a message that is only looked at.
const maxTested = 1 << 30

// readMessage gives the header section of a message and the octets that it
// would have on the wire. Its lines may end as files have them.
func (c *console) readMessage(path string) (header []byte, size int64, err error) {
	in := c.in
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, 0, failed(fmt.Errorf("the message cannot be read: %w", err), "")
		}
		defer file.Close()
		in = file
	}
	var head bytes.Buffer
	counter := &wireCounter{}
	in = io.TeeReader(io.LimitReader(in, maxTested), counter)
	if _, err = io.CopyN(&head, in, maxHeader); err == nil {
		_, err = io.Copy(io.Discard, in)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, failed(fmt.Errorf("the message cannot be read: %w", err), "")
	}
	return headerSection(head.Bytes()), counter.octets, nil
}

// headerSection is all up to the first empty line.
func headerSection(text []byte) []byte {
	for i := 0; i < len(text); {
		end := bytes.IndexByte(text[i:], '\n')
		if end < 0 {
			break
		}
		if line := text[i : i+end]; len(line) == 0 || string(line) == "\r" {
			return text[:i]
		}
		i += end + 1
	}
	return append([]byte{}, text...)
}

// wireCounter counts octets with CRLF at the end of each line (RFC 5321 section
// 2.3.8).
type wireCounter struct {
	octets int64
	last   byte
}

// Write implements io.Writer and keeps nothing.
func (w *wireCounter) Write(p []byte) (int, error) {
	for _, c := range p {
		if w.octets++; c == '\n' && w.last != '\r' {
			w.octets++
		}
		w.last = c
	}
	return len(p), nil
}
