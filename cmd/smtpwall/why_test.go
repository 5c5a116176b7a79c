package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

func itoa(n int) string { return strconv.Itoa(n) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// moment is when the transactions of these tests were: the time in their ids.
var moment = time.UnixMilli(1795318111269).UTC()

const (
	txnSent   = "01M80MRQ15R4YY1WMFCW59NB5G"
	txnOther  = "01M80MRQ16R4YY1WMFCW59NB5G"
	txnDenied = "01M80MRQ17R4YY1WMFCW59NB5G"
	txnLate   = "01M80MRQ18R4YY1WMFCW59NB5G"
	txnHeader = "01M80MRQ19R4YY1WMFCW59NB5G"
)

// line is one line of a log.
func line(t *testing.T, minutes int, event audit.Event) string {
	t.Helper()
	event.Time = moment.Add(time.Duration(minutes) * time.Minute)
	text, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

func compressed(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

// logged is an event of root's.
func logged(kind audit.Kind, txn string, change func(*audit.Event)) audit.Event {
	e := audit.Event{
		Kind: kind, Txn: txn, Listener: "submission", PeerUID: audit.KnownUID(0), PeerUser: "root", ReversePath: "a@example.com",
		Recipients: []audit.Recipient{{Address: "b@example.net", ReplyCode: 250}}, RcptCount: 1, Size: 100, Decision: "allow", Reason: "allowed by rule", Rule: "root",
		ReplyCode: 250, Custody: audit.CustodySpool,
	}
	if kind == audit.KindDelivery {
		e.Decision, e.Reason, e.Rule, e.ReplyCode = "", "", "", 0
	}
	if change != nil {
		change(&e)
	}
	return e
}

// fillLogs writes a log that was rotated twice.
func fillLogs(t *testing.T, directory string) {
	t.Helper()
	log := func(name, text string, age time.Duration) {
		path := filepath.Join(directory, name)
		write(t, path, text)
		if err := os.Chtimes(path, time.Time{}, moment.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	log("transactions.jsonl.3.gz", compressed("this was before, and is not read\n"), 2*time.Hour)
	log("transactions.jsonl.2.gz", compressed(
		line(t, 0, logged(audit.KindTransaction, txnSent, func(e *audit.Event) {
			e.Recipients = append(e.Recipients, audit.Recipient{Address: "c@example.org", ReplyCode: 550})
			e.RcptCount = 2
		}))+line(t, 0, logged(audit.KindTransaction, txnOther, nil))), -time.Minute)
	log("transactions.jsonl.1", line(t, 5, logged(audit.KindDelivery, txnSent, func(e *audit.Event) { e.Attempt, e.RelayReply = 1, "451 later" }))+
		"torn by a crash\n"+
		line(t, 6, logged(audit.KindTransaction, txnDenied, func(e *audit.Event) {
			e.ReversePath, e.Decision, e.Reason, e.ReplyCode, e.Custody = "a@example.org", "deny", "sender not allowed for this identity", 550, audit.CustodyClient
			e.Recipients, e.RcptCount = nil, 0
		})), -10*time.Minute)
	log("transactions.jsonl", line(t, 20, logged(audit.KindDelivery, txnSent, func(e *audit.Event) {
		e.Attempt, e.RelayReply, e.Custody = 2, "250 2.0.0 Ok: queued as 4F", audit.CustodyRelay
	}))+
		line(t, 21, logged(audit.KindTransaction, txnLate, func(e *audit.Event) {
			e.Decision, e.Reason, e.Limit, e.ReplyCode, e.Custody = "defer", "limit of 5 messages/hour reached", "5 messages/hour of uid:0", 450, audit.CustodyClient
		}))+
		line(t, 22, logged(audit.KindTransaction, txnHeader, func(e *audit.Event) {
			e.Decision, e.Reason, e.ReplyCode, e.Custody = "deny", "From field not allowed for this identity", 550, audit.CustodyClient
		})), -30*time.Minute)
	log("transactions.jsonlx", "another's file\n", -30*time.Minute)
}

func TestWhy(t *testing.T) {
	config := file(t, testedConfig)
	fillLogs(t, filepath.Dir(config))
	for _, test := range []struct {
		name, id string
		want     []string
		last     string
	}{
		{"a message that was delivered in the end", txnSent, []string{
			"transaction " + txnSent + "\nidentity: user root, uid 0, groups root\nlistener: submission\nwhat happened:\n",
			" allow <a@example.com> -> <b@example.net> <c@example.org>(550), ", " delivery 1 ", " delivery 2 ", "\"250 2.0.0 Ok: queued as 4F\"",
			"\n  root      decides       user \"root\" fits root\n", "\n  RCPT c@example.org  deny   recipient not allowed for this identity\n",
			"note: the From field is not in the log",
		}, "today allow: allowed by rule, but for 1 of the recipients, as then"},
		{"refused", txnDenied, []string{" deny <a@example.org> -> nobody, ", "\n  MAIL a@example.org  deny   sender not allowed for this identity\n"},
			`today deny: sender not allowed for this identity (rule "root"), as then`},
		{"refused for a limit", "[smtpwall " + txnLate + "]", []string{`limit "5 messages/hour of uid:0"`, "\nthen defer: no room in the limit of 5 messages/hour of uid:0\n"},
			`today allow: allowed by rule (rule "root"), by relay main`},
		{"refused for what is not in the log", strings.ToLower(txnHeader), []string{"\nthen deny: From field not allowed for this identity\n", "\ntoday allow: allowed by rule (rule \"root\"), by relay main\n"},
			"what differs: the configuration, the identity, the room in limits, or something that is not in the log"},
	} {
		status, out, err := run(t, "", "why", test.id, "--config", config)
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", test.name, want, out)
			}
		}
		if lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n"); status != exitDone || lines[len(lines)-1] != test.last {
			t.Errorf("%s: %d, ends with %q, want %q\n%s", test.name, status, lines[len(lines)-1], test.last, err)
		}
	}
}

func TestWhyInJSON(t *testing.T) {
	config := file(t, testedConfig)
	fillLogs(t, filepath.Dir(config))
	_, out, _ := run(t, "", "why", txnSent, "--config", config, "--json")
	var told struct {
		Txn    string
		Events []audit.Event
		Today  struct {
			Decision string
			Rules    []struct{ Rule string }
			Unknown  string `json:"limits_unknown"`
		}
		Notes []string
	}
	if err := json.Unmarshal([]byte(out), &told); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatal(err, out)
	}
	if told.Txn != txnSent || len(told.Events) != 3 || told.Events[2].Attempt != 2 || told.Today.Decision != "deny" || len(told.Today.Rules) != 3 ||
		!strings.Contains(told.Today.Unknown, "no proxy is running") || len(told.Notes) != 1 {
		t.Errorf("%+v", told)
	}
}

// A message that the spool still has tells its From field.
func TestWhyReadsTheSpool(t *testing.T) {
	config := file(t, testedConfig)
	fillLogs(t, filepath.Dir(config))
	item := letter(txnHeader, 1, spool.Hold, spool.Progress{Hold: spool.HoldPolicy, Reason: "refused today"})
	p := &limitedProxy{&fakeProxy{items: []spool.Item{item}, text: map[string]string{txnHeader: "Received: x\r\nFrom: x@example.org\r\n\r\nhi\r\n"}}, nil}
	p.answers(t, config)
	status, out, err := run(t, "", "why", txnHeader, "--config", config)
	if status != exitDone || !strings.HasSuffix(out, "\ntoday deny: From field not allowed for this identity (rule \"root\"), as then\n") ||
		!strings.Contains(out, "\nnow in the spool: hold (policy), next try: -, policy: refused today\n") || !strings.Contains(out, "\n  header x@example.org  deny ") || strings.Contains(out, "note: the From field") {
		t.Errorf("%d, %s\n%s", status, err, out)
	}
}

func TestWhyFails(t *testing.T) {
	config := file(t, testedConfig)
	_, _, err := run(t, "", "why", txnSent, "--config", config)
	if !strings.Contains(err, "smtpwall: error: ") || !strings.Contains(err, "hint: events are kept once smtpwall runs") {
		t.Errorf("no log: %q", err)
	}
	fillLogs(t, filepath.Dir(config))
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, exitUsage, "smtpwall: error: why needs the id of one transaction\nhint: it stands in brackets"},
		{[]string{txnSent, txnLate}, exitUsage, "smtpwall: error: why needs the id of one transaction\n"},
		{[]string{"01J9"}, exitUsage, "smtpwall: error: \"01J9\" is no id of a transaction\nhint: ids have 26 letters"},
		{[]string{"01M80MRQ15R4YY1WMFCW59NB5U"}, exitUsage, "smtpwall: error: \"01M80MRQ15R4YY1WMFCW59NB5U\" is no id"},
		{[]string{"01M80MRQ15R4YY1WMFCW59NB5Z"}, exitFailed, "smtpwall: error: 01M80MRQ15R4YY1WMFCW59NB5Z: no such transaction in the audit log in "},
	} {
		status, out, err := run(t, "", append([]string{"why", "--config", config}, test.args...)...)
		if status != test.status || out != "" || !strings.Contains(err, test.want) {
			t.Errorf("%v: %d, %q, %q", test.args, status, out, err)
		}
	}
}

func TestIDTime(t *testing.T) {
	if got := idTime(txnSent).Add(time.Hour); !got.Equal(moment) {
		t.Errorf("%v, want %v", got.UTC(), moment)
	}
}
