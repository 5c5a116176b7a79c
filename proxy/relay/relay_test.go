package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

const secret = "correct horse battery staple"

func startRelay(t testing.TB, options testkit.RelayOptions) *testkit.Relay {
	t.Helper()
	options.KeepBytes = true
	if options.Username == "" {
		options.Username, options.Password = "relay-user", secret
	}
	r, err := testkit.StartRelay(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func newPool(t testing.TB, r *testkit.Relay, change func(*Options)) *Pool {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(r.CA()) {
		t.Fatal("the relay's CA is no PEM")
	}
	options := Options{
		Name: "main", Host: "relay.test", LocalName: "host.test", Username: "relay-user",
		Password: func() []byte { return []byte(secret) }, Mechanism: "auto", Roots: roots, Connections: 4,
		Endpoints: at(r.Addr(), STARTTLS),
		Timeouts: Timeouts{Wait: 10 * time.Second, Connect: time.Second, Handshake: 2 * time.Second, Command: 2 * time.Second,
			Block: 2 * time.Second, DataEnd: 2 * time.Second},
	}
	if change != nil {
		change(&options)
	}
	pool := New(options)
	t.Cleanup(pool.Retire)
	return pool
}

func at(address string, mode TLSMode) func(context.Context) ([]Endpoint, error) {
	return func(context.Context) ([]Endpoint, error) {
		return []Endpoint{{netip.MustParseAddrPort(address), mode}}, nil
	}
}

// send carries one message through, as a session does.
func send(ctx context.Context, pool *Pool, message string, recipients ...string) (smtp.Reply, []smtp.Reply, error) {
	t, err := pool.Begin(ctx, "uid:33", "from@example.com", smtp.MailParams{})
	if err != nil {
		return smtp.Reply{}, nil, err
	}
	defer t.Abort()
	var rcpts []smtp.Recipient
	for _, address := range recipients {
		rcpts = append(rcpts, smtp.Recipient{Address: address})
	}
	replies, err := t.Recipients(ctx, rcpts)
	if err != nil {
		return smtp.Reply{}, replies, err
	}
	accepted := 0
	for _, reply := range replies {
		if reply.Positive() {
			accepted++
		}
	}
	if accepted == 0 {
		return smtp.Reply{}, replies, nil
	}
	t.Write([]byte(message))
	final, err := t.Finish()
	return final, replies, err
}

func TestImplicitTLS(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{RequireAuth: true})
	pool := newPool(t, r, func(o *Options) { o.Endpoints = at(r.ImplicitAddr(), Implicit) })
	if reply, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@example.net"); err != nil || reply.Code != 250 {
		t.Fatalf("%v, %v", reply, err)
	}
}

// Messages arrive as they are, with and without BDAT and PIPELINING, whatever
// the size, the dots and the pieces.
func TestMessagesArriveUnaltered(t *testing.T) {
	big := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 3000)
	messages := map[string]string{
		"small": "Subject: x\r\n\r\nbody\r\n", "dots": "a: b\r\n\r\n.\r\n..\r\n.x\r\n\r\n.\r\n",
		"only dots": strings.Repeat(".\r\n", 70000), "big": big, "unended": "a: b\r\n\r\nlast line",
	}
	for _, without := range [][]string{nil, {"CHUNKING"}, {"CHUNKING", "PIPELINING"}, {"PIPELINING"}} {
		r := startRelay(t, testkit.RelayOptions{Without: without})
		pool := newPool(t, r, nil)
		for name, message := range messages {
			for _, piece := range []int{7, 16 << 10, len(message)} {
				if piece == 7 && len(message) > 1000 {
					piece = 4001
				}
				got := sendInPieces(t, pool, message, piece)
				if got.Code != 250 {
					t.Fatalf("%v, %s: %v", without, name, got)
				}
				recorded := r.TakeMessages()
				want := message
				if !strings.HasSuffix(want, "\r\n") {
					want += "\r\n"
				}
				if len(recorded) != 1 || string(recorded[0].Bytes) != want {
					t.Fatalf("without %v, %s in pieces of %d: recorded %d messages, altered", without, name, piece, len(recorded))
				}
			}
		}
	}
}

func sendInPieces(t *testing.T, pool *Pool, message string, piece int) smtp.Reply {
	t.Helper()
	tx, err := pool.Begin(t.Context(), "uid:33", "from@example.com", smtp.MailParams{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Recipients(t.Context(), []smtp.Recipient{{Address: "a@example.net"}}); err != nil {
		t.Fatal(err)
	}
	tx.StartData()
	lineStart := true
	for len(message) > 0 {
		n := min(piece, len(message))
		if part := message[:n]; strings.Contains(part, "\n.") || lineStart && part[0] == '.' {
			tx.Write([]byte(part))
		} else {
			tx.WriteDotless([]byte(part))
		}
		lineStart = message[n-1] == '\n'
		message = message[n:]
	}
	reply, err := tx.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestConnectionsAreReused(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{})
	pool := newPool(t, r, nil)
	for range 20 {
		if reply, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@example.net"); err != nil || reply.Code != 250 {
			t.Fatalf("%v, %v", reply, err)
		}
	}
	if c := r.Counters(); c.Connections != 1 || c.Transactions != 20 || c.Auths != 1 {
		t.Fatalf("%+v", c)
	}
}

func TestAbortedTransactionLeavesNothingBehind(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{})
	pool := newPool(t, r, nil)
	tx, err := pool.Begin(t.Context(), "uid:33", "old@example.com", smtp.MailParams{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Recipients(t.Context(), []smtp.Recipient{{Address: "old@example.net"}}); err != nil {
		t.Fatal(err)
	}
	tx.Abort()
	if reply, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "new@example.net"); err != nil || reply.Code != 250 {
		t.Fatalf("%v, %v", reply, err)
	}
	m := r.Messages()
	if len(m) != 1 || len(m[0].Recipients) != 1 || m[0].Recipients[0].Path != "new@example.net" || m[0].ReversePath != "from@example.com" {
		t.Fatalf("recorded %+v", m)
	}
	if c := r.Counters(); c.Connections != 1 {
		t.Fatalf("%d connections, want the first one again", c.Connections)
	}
}

func TestAbortDuringDataSendsNoMessage(t *testing.T) {
	for _, without := range [][]string{nil, {"CHUNKING"}} {
		r := startRelay(t, testkit.RelayOptions{Without: without})
		tx, err := newPool(t, r, nil).Begin(t.Context(), "uid:33", "a@example.com", smtp.MailParams{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Recipients(t.Context(), []smtp.Recipient{{Address: "a@example.net"}}); err != nil {
			t.Fatal(err)
		}
		tx.Write(bytes.Repeat([]byte("x: y\r\n"), 40000))
		tx.Abort()
		if m := r.Messages(); len(m) != 0 {
			t.Fatalf("the relay has %d messages", len(m))
		}
	}
}

// A relay that closed its kept connections costs no message.
func TestKeptConnectionThatWentAway(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{})
	pool := newPool(t, r, nil)
	if err := pool.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.DropConnections()
	if reply, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@example.net"); err != nil || reply.Code != 250 {
		t.Fatalf("%v, %v", reply, err)
	}
	r.On(testkit.StepMail, testkit.Fault{Text: "421 4.3.2 going away", Times: 1})
	if reply, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@example.net"); err != nil || reply.Code != 250 {
		t.Fatalf("after 421 on a kept connection: %v, %v", reply, err)
	}
}

func TestRepliesPerRecipient(t *testing.T) {
	for _, without := range [][]string{nil, {"PIPELINING", "CHUNKING"}} {
		r := startRelay(t, testkit.RelayOptions{Without: without})
		r.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 no such user", Contains: "bad@"})
		r.On(testkit.StepRcpt, testkit.Fault{Text: "450 4.2.1 later", Contains: "slow@"})
		reply, replies, err := send(t.Context(), newPool(t, r, nil), "a: b\r\n\r\n", "good@x.test", "bad@x.test", "slow@x.test")
		if err != nil || reply.Code != 250 {
			t.Fatalf("%v, %v", reply, err)
		}
		if replies[0].Code != 250 || replies[1].String() != "550 5.1.1 no such user" || replies[2].String() != "450 4.2.1 later" {
			t.Fatalf("replies %v", replies)
		}
	}
}

func TestRefusalOfMailIsEachRecipientsReply(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{})
	r.On(testkit.StepMail, testkit.Fault{Text: "550 5.7.1 not you"})
	_, replies, err := send(t.Context(), newPool(t, r, nil), "a: b\r\n\r\n", "a@x.test", "b@x.test")
	if err != nil || len(replies) != 2 || replies[0].String() != "550 5.7.1 not you" || replies[1].Code != 550 {
		t.Fatalf("%v, %v", replies, err)
	}
}

// The relay misbehaves at each step: nobody says 250 for it, and the client's
// reply is the right one.
func TestMisbehaviour(t *testing.T) {
	broken := []testkit.Act{testkit.Hangup, testkit.Reset, testkit.Garbage, testkit.LongLine, testkit.ManyLines}
	steps := []testkit.RelayStep{testkit.StepGreeting, testkit.StepHello, testkit.StepSTARTTLS, testkit.StepHandshake,
		testkit.StepAuth, testkit.StepMail, testkit.StepRcpt, testkit.StepData, testkit.StepContent, testkit.StepEnd}
	for _, without := range [][]string{nil, {"CHUNKING"}} {
		for _, step := range steps {
			for _, act := range broken {
				if step == testkit.StepData && without == nil {
					continue // BDAT has no reply before the data
				}
				r := startRelay(t, testkit.RelayOptions{Without: without})
				r.On(step, testkit.Fault{Act: act, Bytes: 1000})
				message := strings.Repeat("x: y\r\n", 100000)
				reply, replies, err := send(t.Context(), newPool(t, r, nil), message, "a@x.test")
				checkMisbehaviour(t, string(step), act, err, reply, replies)
				var failure *Error
				if len(r.Messages()) > 0 && !(errors.As(err, &failure) && failure.Unknown) {
					t.Errorf("%s: the relay has the message", step)
				}
				_ = r.Close()
			}
		}
	}
}

func checkMisbehaviour(t *testing.T, step string, act testkit.Act, err error, reply smtp.Reply, replies []smtp.Reply) {
	t.Helper()
	if reply.Positive() {
		t.Errorf("%s, act %d: 250 that the relay did not say", step, act)
	}
	if err == nil {
		t.Errorf("%s, act %d: no error, replies %v", step, act, replies)
		return
	}
	var failure *Error
	if !errors.As(err, &failure) {
		t.Fatalf("%s, act %d: error %v is no *Error", step, act, err)
	}
	// In the middle of the content the whole of it may have left already.
	if step != string(testkit.StepContent) && failure.Unknown != (step == string(testkit.StepEnd)) {
		t.Errorf("%s, act %d: unknown is %v: %v", step, act, failure.Unknown, err)
	}
	if answer := failure.ClientReply(); !answer.Transient() {
		t.Errorf("%s, act %d: the client would be told %v", step, act, answer)
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("%s: the password is in %q", step, err)
	}
}

func TestStallEndsInTime(t *testing.T) {
	for _, step := range []testkit.RelayStep{testkit.StepGreeting, testkit.StepRcpt, testkit.StepEnd} {
		r := startRelay(t, testkit.RelayOptions{})
		r.On(step, testkit.Fault{Act: testkit.Stall})
		pool := newPool(t, r, func(o *Options) {
			const short = 100 * time.Millisecond
			o.Timeouts = Timeouts{Connect: short, Handshake: short, Command: short, Block: short, DataEnd: short}
		})
		if _, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@x.test"); err == nil {
			t.Errorf("%s: no error", step)
		}
	}
}

func TestDoubledReplyIsNotTheNextOnes(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{})
	pool := newPool(t, r, nil)
	r.On(testkit.StepMail, testkit.Fault{Act: testkit.Twice, Times: 1})
	reply, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@x.test")
	if err == nil && len(r.Messages()) == 0 && reply.Positive() {
		t.Fatalf("250 from a doubled reply: %v", reply)
	}
	r.On(testkit.StepEnd, testkit.Fault{Text: "550 5.7.1 refused"})
	if reply, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@x.test"); err == nil && reply.Positive() {
		t.Fatalf("the next message was told %v", reply)
	}
}

func TestTLSIsVerified(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{})
	other := startRelay(t, testkit.RelayOptions{})
	wrongCA := x509.NewCertPool()
	wrongCA.AppendCertsFromPEM(other.CA())
	for name, change := range map[string]func(*Options){
		"foreign CA": func(o *Options) { o.Roots = wrongCA },
		"wrong name": func(o *Options) { o.Host = "somebody-else.test" },
		"wrong pin":  func(o *Options) { o.Pins = [][]byte{make([]byte, 32)} },
		"no STARTTLS": func(o *Options) {
			o.Endpoints = at(startRelay(t, testkit.RelayOptions{Without: []string{"STARTTLS"}}).Addr(), STARTTLS)
		},
		"TLS on 587 port": func(o *Options) { o.Endpoints = at(r.Addr(), Implicit) },
	} {
		_, err := newPool(t, r, change).Begin(t.Context(), "uid:33", "", smtp.MailParams{})
		var failure *Error
		if !errors.As(err, &failure) || failure.Step != StepTLS {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c := r.Counters(); c.Auths != 0 || c.AuthFailures != 0 {
		t.Errorf("a credential was sent: %+v", c)
	}
}

func TestPin(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{})
	block, _ := pem.Decode(r.CA())
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	pin := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
	pool := newPool(t, r, func(o *Options) { o.Pins = [][]byte{pin[:]} })
	if err := pool.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
}
