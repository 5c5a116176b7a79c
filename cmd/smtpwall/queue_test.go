package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// fakeProxy has messages and does what it is told, by a real socket.
type fakeProxy struct {
	mu     sync.Mutex
	items  []spool.Item
	text   map[string]string
	status admin.Status
	busy   string // the message that is on its way
	orders []string
	off    map[string]limit.Suspension // by key
}

func (p *fakeProxy) Status(context.Context) (admin.Status, error) { return p.status, nil }

func (p *fakeProxy) Items(_ context.Context, f spool.Filter, yield func(spool.Item) error) error {
	for _, item := range p.matching(f) {
		if err := yield(item); err != nil {
			return err
		}
	}
	return nil
}

func (p *fakeProxy) matching(f spool.Filter) (found []spool.Item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, item := range p.items {
		if f.Match(item, time.Now()) {
			found = append(found, item)
		}
	}
	return found
}

func (p *fakeProxy) Message(_ context.Context, id string) (spool.Item, io.ReadCloser, error) {
	for _, item := range p.items {
		if item.ID == id {
			return item, io.NopCloser(strings.NewReader(p.text[id])), nil
		}
	}
	return spool.Item{}, nil, spool.ErrUnknown
}

func (p *fakeProxy) Act(_ context.Context, op admin.Op, f spool.Filter, done func(admin.Outcome)) error {
	found := p.matching(f)
	ids := f.IDs
	if len(ids) == 0 {
		for _, item := range found {
			ids = append(ids, item.ID)
		}
	}
	for i, id := range ids {
		outcome := admin.Outcome{ID: id, Done: i + 1, Total: len(ids)}
		switch {
		case !slices.ContainsFunc(found, func(item spool.Item) bool { return item.ID == id }):
			outcome.Error = spool.ErrUnknown.Error()
		case id == p.busy:
			outcome.Error = "it is being delivered at this moment, try again soon"
		default:
			p.note(op, id)
		}
		done(outcome)
	}
	return nil
}

func (p *fakeProxy) note(op admin.Op, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.orders = append(p.orders, string(op)+" "+id)
	if op == admin.Drop {
		p.items = slices.DeleteFunc(p.items, func(item spool.Item) bool { return item.ID == id })
	}
}

// told is what it was told since the last time.
func (p *fakeProxy) told() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	orders := p.orders
	p.orders = nil
	return orders
}

// serve makes the proxy answer, and gives the configuration that leads to it.
func (p *fakeProxy) serve(t *testing.T) (config string) {
	t.Helper()
	config = file(t, "[listen]\nadmin = \"DIR/a\"\n[delivery]\nspool = \"DIR/spool\"\n")
	serveAdmin(t, config, admin.Options{Reader: p, Limits: p, Actor: p})
	return config
}

// serveAdmin makes a proxy answer at the socket of a configuration.
func serveAdmin(t *testing.T, config string, proxy admin.Options) {
	t.Helper()
	ln, err := admin.Listen(filepath.Join(filepath.Dir(config), "a"), -1)
	if err != nil {
		t.Fatal(err)
	}
	server := admin.NewServer(proxy)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }() // waited for in the clean-up
	t.Cleanup(func() {
		if err := errors.Join(server.Shutdown(context.Background()), <-ended); err != nil {
			t.Error(err)
		}
	})
}

// letter is a message that came hours ago.
func letter(id string, hours int, state spool.State, p spool.Progress) spool.Item {
	uid := uint32(33)
	return spool.Item{
		Entry: spool.Entry{
			ID: id, Time: time.Now().Add(-time.Duration(hours) * time.Hour).UTC(), Size: 1536,
			Envelope: smtp.Envelope{ReversePath: "shop@example.com", Recipients: []smtp.Recipient{{Address: "a@example.net"}, {Address: "b@example.net"}}},
			Identity: spool.Identity{UID: &uid, User: "www-data", Unit: "php8.2-fpm.service", Listener: "submission"},
		},
		State: state, Progress: p, Stored: 4096,
	}
}

// letters are what the tests go by: B came first.
func letters() *fakeProxy {
	soon := time.Now().Add(23*time.Minute + 30*time.Second)
	notice := letter("C", 1, spool.Active, spool.Progress{Attempts: 1})
	notice.Identity, notice.Envelope.ReversePath = spool.Identity{Notice: true}, ""
	return &fakeProxy{
		items: []spool.Item{
			letter("A", 3, spool.Deferred, spool.Progress{
				Time: time.Now(), Attempts: 4, Next: soon, Relay: "main", Reason: "451 4.3.0 try \x1b[2Jlater",
				Rest: []spool.Due{{Rcpt: 1, Reply: "451 4.7.1 <b@example.net> greylisted"}}, PossibleDuplicate: true,
			}),
			letter("B", 72, spool.Deferred, spool.Progress{Reason: "the relay cannot be reached now"}),
			notice,
			letter("H", 2, spool.Hold, spool.Progress{Hold: spool.HoldPolicy, Reason: "rule \"sites\" does not allow it"}),
		},
		text: map[string]string{"A": "Subject: \x1b]0;hi\a\r\n\tfolded\r\nFrom: <shop@example.com>\r\n\r\nbody\x00\r\n"},
	}
}

func TestJSONDoesNotSteer(t *testing.T) {
	var out bytes.Buffer
	said := "<a> \x1b[2J\u009b2J\u202e\U000e0001é\n\x7f"
	if err := (&console{out: &out}).printJSON(said); err != nil {
		t.Fatal(err)
	}
	if want := `"<a> \u001b[2J\u009b2J\u202e\udb40\udc01é\n\u007f"` + "\n"; out.String() != want {
		t.Errorf("%s, want %s", out.String(), want)
	}
	var got string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got != said {
		t.Errorf("it means %q, %v", got, err)
	}
}

// lines are the lines of a text, with each run of spaces as one.
func lines(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		all = append(all, strings.Join(strings.Fields(line), " "))
	}
	return all
}

func TestQueueList(t *testing.T) {
	config := letters().serve(t)
	status, out, err := run(t, "", "queue", "list", "--config", config)
	want := []string{
		"ID STATE AGE SIZE TRIES NEXT IDENTITY REVERSE-PATH RECIPIENTS REASON",
		"B deferred 3d 1.5 KiB 0 now www-data shop@example.com a@example.net +1 the relay cannot be reached now",
		`A deferred 3h 1.5 KiB 4 in 23m www-data shop@example.com b@example.net main: 451 4.3.0 try \x1b[2Jlater`,
		"C active 1h 1.5 KiB 1 now notice <> a@example.net +1 -",
	}
	if status != exitDone || !slices.Equal(lines(out), want) || err != "3 messages, 4.5 KiB\n" {
		t.Errorf("%d, %q, stdout:\n%s\nwant:\n%s", status, err, out, strings.Join(want, "\n"))
	}
	status, out, err = run(t, "", "hold", "list", "--config", config)
	want = []string{strings.Replace(want[0], "NEXT", "EXPIRES", 1), `H hold 2h 1.5 KiB 0 in 29d www-data shop@example.com a@example.net +1 policy: rule "sites" does not allow it`}
	if status != exitDone || !slices.Equal(lines(out), want) || err != "1 message, 1.5 KiB\n" {
		t.Errorf("%d, %q, stdout:\n%s\nwant:\n%s", status, err, out, strings.Join(want, "\n"))
	}
}

func TestQueueListFilters(t *testing.T) {
	config := letters().serve(t)
	for _, test := range []struct {
		args   []string
		ids    string
		status int
		err    string
	}{
		{nil, "B A C", exitDone, ""},
		{[]string{"--older", "2d"}, "B", exitDone, ""},
		{[]string{"--older", "2h", "--reason", "LATER"}, "A", exitDone, ""},
		{[]string{"--reason", "greylisted"}, "A", exitDone, ""},
		{[]string{"--relay", "main"}, "A", exitDone, ""},
		{[]string{"--identity", "notice"}, "C", exitDone, ""},
		{[]string{"--identity", "php8.2-fpm.service"}, "B A", exitDone, ""},
		{[]string{"--identity", "nobody"}, "", exitDone, ""},
		{[]string{"A", "C"}, "A C", exitDone, ""},
		{[]string{"A", "H", "x\x1by"}, "A", exitFailed, "smtpwall: error: H: no such message here\nsmtpwall: error: x\\x1by: no such message here\n"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			status, out, err := run(t, "", append([]string{"queue", "list", "--json", "--config", config}, test.args...)...)
			var ids []string
			for line := range strings.Lines(out) {
				var item struct {
					ID       string
					State    spool.State
					Progress struct{ Attempts int }
				}
				if err := json.Unmarshal([]byte(line), &item); err != nil || item.State == "" {
					t.Fatalf("%v in %s", err, line)
				}
				ids = append(ids, item.ID)
			}
			if status != test.status || strings.Join(ids, " ") != test.ids || err != test.err {
				t.Errorf("%d, %v, %q; want %d, %s, %q", status, ids, err, test.status, test.ids, test.err)
			}
		})
	}
	status, out, err := run(t, "", "queue", "list", "--config", config, "--identity", "nobody")
	if status != exitDone || out != "" || err != "no messages\n" {
		t.Errorf("an empty list: %d, %q, %q", status, out, err)
	}
}

func TestQueueShow(t *testing.T) {
	config := letters().serve(t)
	status, out, err := run(t, "", "queue", "show", "A", "--config", config)
	if status != exitDone || err != "" {
		t.Fatalf("%d, %q", status, err)
	}
	for _, want := range []string{
		"id: A", "state: deferred", "size: 1.5 KiB, 4.0 KiB in the spool",
		"identity: user www-data, uid 33, unit php8.2-fpm.service", "listener: submission",
		`reason: 451 4.3.0 try \x1b[2Jlater`, "next: in 23m", "duplicate: possible: a try was cut short when the relay may have had the message",
		"reverse-path: shop@example.com", "recipient: a@example.net, done with", "recipient: b@example.net, 451 4.7.1 <b@example.net> greylisted",
		"header section:", `Subject: \x1b]0;hi\a`, "folded", "From: <shop@example.com>",
	} {
		if !slices.Contains(lines(out), want) {
			t.Errorf("no line %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "body") || strings.ContainsAny(out, "\x1b\x07\x00") {
		t.Errorf("%q", out)
	}
	if _, out, _ = run(t, "", "hold", "show", "H", "--config", config); !slices.Contains(lines(out), "state: hold (policy)") {
		t.Errorf("no reason why it is held in:\n%s", out)
	}
	status, out, _ = run(t, "", "queue", "show", "--body", "A", "--config", config)
	if want := letters().text["A"]; status != exitDone || out != want {
		t.Errorf("the message came as %q, want %q", out, want)
	}
	status, out, _ = run(t, "", "queue", "show", "--json", "A", "--config", config)
	var got known
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != exitDone || got.ID != "A" ||
		got.Progress.Attempts != 4 || len(got.HeaderSection) != 3 || got.HeaderSection[1] != "\tfolded" {
		t.Errorf("%v, %s", err, out)
	}
	status, out, err = run(t, "", "queue", "show", "Z", "--config", config)
	if status != exitFailed || out != "" || err != "smtpwall: error: Z: no such message in the spool\nhint: it may be delivered: smtpwall log --id Z\n" {
		t.Errorf("%d, %q, %q", status, out, err)
	}
}

func TestQueueChange(t *testing.T) {
	for _, test := range []struct {
		name   string
		args   string
		orders string
		status int
		out    string
		err    string
	}{
		{"retry one", "queue retry A", "retry A", exitDone, "", "1 message due at once\n"},
		{"retry all", "queue retry --all", "retry A,retry B", exitFailed, "",
			"smtpwall: error: C: it is being delivered at this moment, try again soon\n2 messages due at once\n" +
				"smtpwall: error: 1 message could not be changed\nhint: smtpwall queue list shows what is there\n"},
		{"retry what is held", "queue retry H", "", exitFailed, "",
			"smtpwall: error: H: no such message\n0 messages due at once\n" +
				"smtpwall: error: 1 message could not be changed\nhint: smtpwall queue list shows what is there\n"},
		{"release", "hold release --reason sites", "release H", exitDone, "", "1 message released, due at once\n"},
		{"release none", "hold release --reason none", "", exitDone, "", "0 messages released, due at once\n"},
		{"drop by id", "queue drop A B", "drop A,drop B", exitDone, "", "2 messages dropped\n"},
		{"drop as JSON", "queue drop A Z --json", "drop A", exitFailed, "{\"id\":\"A\"}\n{\"id\":\"Z\",\"error\":\"no such message\"}\n",
			"smtpwall: error: Z: no such message\n1 message dropped\n" +
				"smtpwall: error: 1 message could not be changed\nhint: smtpwall queue list shows what is there\n"},
		{"drop by a filter, with nobody to ask", "queue drop --older 1d", "", exitUsage, "",
			"smtpwall: error: 1 message would be dropped, and there is nobody to ask\nhint: --yes drops them\n"},
		{"drop by a filter", "queue drop --older 1d --yes", "drop B", exitDone, "", "dropping 1 message, 1.5 KiB\n1 message dropped\n"},
		{"drop none", "queue drop --older 90d --yes", "", exitDone, "", "no messages\n"},
		{"drop what is held", "hold drop --all --yes", "drop H", exitDone, "", "dropping 1 message, 1.5 KiB\n1 message dropped\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := letters()
			p.busy = "C"
			config := p.serve(t)
			status, out, err := run(t, "", append(strings.Fields(test.args), "--config", config)...)
			orders := p.told()
			slices.Sort(orders)
			if status != test.status || out != test.out || err != test.err || strings.Join(orders, ",") != test.orders {
				t.Errorf("%d, %q, %q, %v; want %d, %q, %q, %s", status, out, err, orders, test.status, test.out, test.err, test.orders)
			}
		})
	}
}

// What was agreed to is dropped, and neither what came since nor an error for
// what has gone.
func TestDropWhatWasCounted(t *testing.T) {
	p := letters()
	p.items = p.items[:2]
	work := change{loose: true}
	for _, outcome := range []admin.Outcome{{ID: "A"}, {ID: "B", Error: "dropping message B: " + spool.ErrUnknown.Error()}, {ID: "C", Error: "busy"}} {
		work.add(outcome)
	}
	if work.done != 1 || work.gone != 1 || len(work.errors) != 1 {
		t.Errorf("%+v", work)
	}
	var errOut bytes.Buffer
	c := &console{err: &errOut}
	err := c.tellChange(order{place: place{name: "queue"}}, &change{op: admin.Drop, done: 1, gone: 2}, nil)
	if err != nil || errOut.String() != "1 message dropped\n2 messages gone before\n" {
		t.Errorf("%v, %q", err, errOut.String())
	}
}

// Many ids go in batches, and the bar knows of all.
func TestManyIDs(t *testing.T) {
	p := &fakeProxy{}
	args := []string{"queue", "drop", "--config", p.serve(t)}
	for i := range maxBatch + 5 {
		id := fmt.Sprintf("M%d", i)
		args = append(args, id)
	}
	status, _, err := run(t, "", args...)
	if status != exitFailed || strings.Count(err, "no such message\n") != maxQueueErrors ||
		!strings.Contains(err, fmt.Sprintf("error: %d messages could not be changed", maxBatch+5)) {
		t.Errorf("%d, %s", status, err)
	}
}

func TestAsk(t *testing.T) {
	for answer, agreed := range map[string]bool{"y\n": true, "YES\n": true, "n\n": false, "\n": false, "": false, "yellow\n": false, "y": true} {
		var errOut bytes.Buffer
		c := &console{in: strings.NewReader(answer), err: &errOut}
		if err := c.ask("Drop 2 messages?", "nothing was dropped"); (err == nil) != agreed || errOut.String() != "Drop 2 messages? [y/N] " {
			t.Errorf("%q: %v, %q", answer, err, errOut.String())
		}
	}
}

func TestQueueUsage(t *testing.T) {
	for _, test := range []struct{ args, err string }{
		{"queue", "smtpwall: error: queue needs list, show, retry or drop\nhint: smtpwall queue list shows what is there\n"},
		{"hold", "smtpwall: error: hold needs list, show, release or drop\nhint: smtpwall hold list shows what is there\n"},
		{"queue release", "smtpwall: error: unknown word \"release\"\nhint: list, show, retry or drop\n"},
		{"hold retry", "smtpwall: error: unknown word \"retry\"\nhint: list, show, release or drop\n"},
		{"queue show", "smtpwall: error: queue show needs the id of one message\nhint: smtpwall queue list prints ids\n"},
		{"queue show A B", "smtpwall: error: queue show needs the id of one message\nhint: smtpwall queue list prints ids\n"},
		{"queue show A --body --json", "smtpwall: error: --body prints the message as it is, --json does not\nhint: leave one of them out\n"},
		{"queue drop", "smtpwall: error: queue drop needs ids of messages, a filter or --all\nhint: smtpwall queue list takes the same filters and changes nothing\n"},
		{"queue retry", "smtpwall: error: queue retry needs ids of messages, a filter or --all\nhint: smtpwall queue list takes the same filters and changes nothing\n"},
		{"hold release --yes H", "smtpwall: error: hold release has no flag --yes\nhint: smtpwall hold --help lists the flags\n"},
		{"queue drop --all A", "smtpwall: error: --all is every message, whatever the ids and filters say\nhint: leave one of them out\n"},
		{"queue drop --all --older 1h", "smtpwall: error: --all is every message, whatever the ids and filters say\nhint: leave one of them out\n"},
		{"queue show A --older 1h", "smtpwall: error: queue show has no flag --older\nhint: smtpwall queue --help lists the flags\n"},
		{"queue list --all", "smtpwall: error: queue list has no flag --all\nhint: smtpwall queue --help lists the flags\n"},
		{"queue list --older 1w", "invalid value \"1w\" for flag -older: write a number and a unit, s, m, h or d: \"90m\"\n"},
		{"queue list --older -1h", "invalid value \"-1h\" for flag -older: "},
		{"queue list --older 0s", "invalid value \"0s\" for flag -older: "},
		{"queue list --older d", "invalid value \"d\" for flag -older: "},
		{"queue list --older 99999999h", "invalid value \"99999999h\" for flag -older: "},
	} {
		t.Run(test.args, func(t *testing.T) {
			status, out, err := run(t, "", strings.Fields(test.args)...)
			if status != exitUsage || out != "" || !strings.HasPrefix(err, test.err) {
				t.Errorf("%d, %q, %q; want %q", status, out, err, test.err)
			}
		})
	}
}

func TestAge(t *testing.T) {
	for text, want := range map[string]time.Duration{"90m": 90 * time.Minute, "5d": 120 * time.Hour, "1d12h": 36 * time.Hour} {
		var a age
		if err := a.Set(text); err != nil || time.Duration(a) != want {
			t.Errorf("%s: %v, %v; want %v", text, time.Duration(a), err, want)
		}
	}
}

// Without a proxy the files are shown, and nothing is changed.
func TestQueueOffline(t *testing.T) {
	config := file(t, "[listen]\nadmin = \"DIR/a\"\n[delivery]\nspool = \"DIR/spool\"\n")
	directory := filepath.Dir(config)
	keep(t, filepath.Join(directory, "spool"), "KEPT", spool.Deferred)
	offline := fmt.Sprintf("smtpwall: no proxy is running: nobody answers at %s/a: this is what the spool's files say\n", directory)
	status, out, err := run(t, "", "queue", "list", "--config", config)
	if status != exitDone || !strings.Contains(out, "KEPT") || err != offline+"1 message, 21 B\n" {
		t.Errorf("%d, %q, %q", status, out, err)
	}
	status, out, err = run(t, "", "queue", "show", "--body", "KEPT", "--config", config)
	if status != exitDone || out != heldText || err != offline {
		t.Errorf("%d, %q, %q", status, out, err)
	}
	status, out, err = run(t, "", "queue", "list", "KEPT", "GONE", "--config", config)
	if status != exitFailed || !strings.Contains(out, "KEPT") || !strings.Contains(err, "smtpwall: error: GONE: no such message here\n") {
		t.Errorf("%d, %q, %q", status, out, err)
	}
	status, out, err = run(t, "", "queue", "drop", "--all", "--yes", "--config", config)
	if status != exitFailed || out != "" || err != fmt.Sprintf("smtpwall: error: queue drop: no proxy is running: nobody answers at %s/a\n", directory)+
		"hint: only a running proxy changes the spool: systemctl start smtpwall.service, or smtpwall run\n" {
		t.Errorf("%d, %q, %q", status, out, err)
	}
	if files, err := filepath.Glob(filepath.Join(directory, "spool", "queue", "KEPT.*")); err != nil || len(files) != 1 {
		t.Errorf("the spool has %v, %v", files, err)
	}
}

const heldText = "Subject: held\r\n\r\nhi\r\n"

// keep puts a message into a spool, as a proxy that has ended since.
func keep(t *testing.T, directory, id string, state spool.State) {
	t.Helper()
	s, err := spool.Open(directory, spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Create(spool.Entry{ID: id, Envelope: smtp.Envelope{ReversePath: "a@example.com", Recipients: []smtp.Recipient{{Address: "b@example.net"}}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte(heldText))
	if err := errors.Join(err, w.Commit(state, spool.Progress{Reason: "no relay is configured"}), s.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestQueueWithoutSpool(t *testing.T) {
	config := file(t, "[listen]\nadmin = \"\"\n[delivery]\nspool = \"DIR/none\"\n")
	status, out, err := run(t, "", "queue", "list", "--config", config)
	want := fmt.Sprintf("smtpwall: error: no proxy is running, and there is no spool in %s/none\n"+
		"hint: the spool is made when smtpwall first runs; --config names another configuration\n", filepath.Dir(config))
	if status != exitFailed || out != "" || err != want {
		t.Errorf("%d, %q, %q; want %q", status, out, err, want)
	}
	keep(t, filepath.Join(filepath.Dir(config), "none"), "H", spool.Hold)
	status, _, err = run(t, "", "hold", "release", "--all", "--config", config)
	if status != exitFailed || err != "smtpwall: error: hold release: listen.admin is empty\n"+
		"hint: give listen.admin a path, such as \"/run/smtpwall/admin.sock\", and restart the proxy\n" {
		t.Errorf("%d, %q", status, err)
	}
}

// A proxy that is there and does not let this user in is not gone around.
func TestQueueDenied(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	config := letters().serve(t)
	err := noQueue(fmt.Errorf("%w (%s)", admin.ErrDenied, "/run/smtpwall/admin.sock"), nil)
	var errOut bytes.Buffer
	if status := (&console{err: &errOut}).status(err); status != exitFailed || !strings.HasSuffix(errOut.String(), "hint: run it as root, or as a member of the socket's group\n") {
		t.Errorf("%d, %q", status, errOut.String())
	}
	if status, _, _ := run(t, "", "queue", "list", "--config", config); status != exitDone {
		t.Error("root was denied")
	}
}
