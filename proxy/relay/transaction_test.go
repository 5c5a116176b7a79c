package relay

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// MAIL and all RCPT of one call are one flight, and so one wait.
func TestEnvelopeIsOneFlight(t *testing.T) {
	for _, test := range []struct {
		without []string
		flights int64
	}{{nil, 1}, {[]string{"PIPELINING"}, 5}} {
		r := startRelay(t, testkit.RelayOptions{Without: test.without})
		pool := newPool(t, r, nil)
		tx, err := pool.Begin(t.Context(), "uid:33", "from@example.com", smtp.MailParams{})
		if err != nil {
			t.Fatal(err)
		}
		before := r.Counters().Flights
		rcpts := []smtp.Recipient{{Address: "a@x.test"}, {Address: "b@x.test"}, {Address: "c@x.test"}, {Address: "d@x.test"}}
		if _, err := tx.Recipients(t.Context(), rcpts); err != nil {
			t.Fatal(err)
		}
		if n := r.Counters().Flights - before; n != test.flights {
			t.Errorf("without %v: %d flights, want %d", test.without, n, test.flights)
		}
		tx.Abort()
	}
}

// What the relay says about our login or our connection is not the client's to
// hear: it has nothing to log in to, and its message may go well later.
func TestRepliesAboutUs(t *testing.T) {
	for _, test := range []struct {
		step  testkit.RelayStep
		reply string
		want  Step
	}{
		{testkit.StepMail, "530 5.7.0 Authentication required", StepDenied},
		{testkit.StepMail, "503 5.5.1 nested MAIL command", StepEnvelope},
		{testkit.StepMail, "354 go ahead", StepEnvelope},
		{testkit.StepRcpt, "535 5.7.8 session expired", StepDenied},
		{testkit.StepRcpt, "421 4.3.2 inner-host.relay.test shutting down", StepEnvelope},
		{testkit.StepData, "530 5.7.0 Authentication required", StepDenied},
		{testkit.StepData, "250 2.0.0 what?", StepData},
	} {
		t.Run(fmt.Sprint(test.step, " ", test.reply), func(t *testing.T) {
			r := startRelay(t, testkit.RelayOptions{Without: []string{"CHUNKING"}})
			r.On(test.step, testkit.Fault{Text: test.reply})
			_, replies, err := send(t.Context(), newPool(t, r, nil), "a: b\r\n\r\n", "a@x.test")
			var failure *Error
			if !errors.As(err, &failure) || failure.Step != test.want {
				t.Fatalf("%v, replies %v; want a failure of %q", err, replies, test.want)
			}
			if told := failure.ClientReply(); !told.Transient() || strings.Contains(told.Text(), "inner-host") || strings.Contains(told.Text(), "Authentication") {
				t.Fatalf("the client is told %v", told)
			}
		})
	}
}

func TestForClient(t *testing.T) {
	for wire, want := range map[string]string{
		"550 5.1.1 no such user":       "550 5.1.1 no such user",
		"250 queued":                   "250 2.0.0 queued",
		"452 full":                     "452 4.0.0 full",
		"421 4.3.2 relay7 closing":     "451 4.4.2 the connection to the relay was lost, try again",
		"503 5.5.1 bad sequence":       "451 4.4.2 the connection to the relay was lost, try again",
		"530 5.7.0 log in first":       "451 4.3.5 the relay does not accept this host now; the administrator of this host can see why",
		"550-5.7.1 a\r\n550 5.7.1 b":   "550 5.7.1 a b",
		"554 5.7.1 \x01 250 2.0.0 ok ": "554 5.7.1 \x01 250 2.0.0 ok ",
	} {
		reply, err := smtp.ReadReply(smtp.NewReader(strings.NewReader(wire+"\r\n"), make([]byte, 100)))
		if err != nil {
			t.Fatal(err)
		}
		if got := ForClient(reply).String(); got != want {
			t.Errorf("%q became %q, want %q", wire, got, want)
		}
	}
}

// Octets of the message decide about transparency, NUL included.
func TestDotsBehindNULs(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{Without: []string{"CHUNKING"}})
	message := "a: b\r\n\r\n\x00.\x00.\r\n.\x00\r\n\x00"
	if reply := sendInPieces(t, newPool(t, r, nil), message, 1); reply.Code != 250 {
		t.Fatal(reply)
	}
	if got := string(r.Messages()[0].Bytes); got != message+"\r\n" {
		t.Fatalf("%q arrived as %q", message, got)
	}
}

// A transaction that fails on a kept connection may have been begun there, but
// its message was not sent: sending it anew cannot make two of it. Once data
// left there is no second try.
func TestNothingIsSentTwice(t *testing.T) {
	for _, step := range []testkit.RelayStep{testkit.StepMail, testkit.StepRcpt, testkit.StepData, testkit.StepContent, testkit.StepEnd} {
		for _, act := range []testkit.Act{testkit.Hangup, testkit.Reset, testkit.Garbage, testkit.Silent} {
			if act == testkit.Silent && step != testkit.StepEnd {
				continue // replies get out of step, which is another test's
			}
			r := startRelay(t, testkit.RelayOptions{Without: []string{"CHUNKING"}})
			pool := newPool(t, r, nil)
			if err := pool.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.On(step, testkit.Fault{Act: act, Times: 1, Bytes: 10})
			reply, _, err := send(t.Context(), pool, strings.Repeat("x: y\r\n", 10000), "a@x.test")
			if pool.slots.free != pool.options.Connections {
				t.Errorf("%s, act %d: %d of %d slots are free", step, act, pool.slots.free, pool.options.Connections)
			}
			sent := len(r.Messages())
			envelope := step == testkit.StepMail || step == testkit.StepRcpt
			if envelope && (err != nil || sent != 1 || reply.Code != 250) {
				t.Errorf("%s, act %d: %d messages, %v, %v", step, act, sent, reply, err)
			}
			if !envelope && (err == nil || sent > 1) {
				t.Errorf("%s, act %d: %d messages, %v, %v", step, act, sent, reply, err)
			}
		}
	}
}

// A relay that says in the middle of an envelope that a kept connection is no
// longer good gets the whole envelope on a new one.
func TestKeptConnectionThatEndsAtRcpt(t *testing.T) {
	for _, reply := range []string{"421 4.4.2 timeout", "530 5.7.0 log in", "503 5.5.1 no"} {
		r := startRelay(t, testkit.RelayOptions{})
		pool := newPool(t, r, nil)
		if err := pool.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.On(testkit.StepRcpt, testkit.Fault{Text: reply, Times: 1, Contains: "b@"})
		reply, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@x.test", "b@x.test")
		if err != nil || reply.Code != 250 || len(r.Messages()) != 1 {
			t.Errorf("%v, %v, %d messages", reply, err, len(r.Messages()))
		}
	}
}

// A relay that was taken to know an extension must still know it when the kept
// connection is replaced.
func TestReplacedConnectionOffersLess(t *testing.T) {
	strong := startRelay(t, testkit.RelayOptions{})
	weak := startRelay(t, testkit.RelayOptions{Without: []string{"SMTPUTF8"}})
	pool := newPool(t, strong, func(o *Options) { o.Roots.AppendCertsFromPEM(weak.CA()) })
	if err := pool.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	pool.options.Endpoints = at(weak.Addr(), STARTTLS)
	strong.DropConnections()
	tx, err := pool.Begin(t.Context(), "uid:33", "ä@example.com", smtp.MailParams{UTF8: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Abort()
	if _, err := tx.Recipients(t.Context(), []smtp.Recipient{{Address: "a@x.test"}}); !errors.Is(err, errLess) {
		t.Fatal(err)
	}
}

// A relay whose replies are out of step with our commands is never believed.
func TestRepliesOutOfStep(t *testing.T) {
	for _, without := range [][]string{nil, {"CHUNKING"}} {
		r := startRelay(t, testkit.RelayOptions{Without: without})
		pool := newPool(t, r, nil)
		r.On(testkit.StepRcpt, testkit.Fault{Act: testkit.Twice})
		r.On(testkit.StepEnd, testkit.Fault{Text: "554 5.7.1 refused"})
		for range 5 {
			reply, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@x.test")
			if reply.Positive() || err == nil && reply.Code != 554 {
				t.Fatalf("without %v: %v, %v", without, reply, err)
			}
		}
	}
}
