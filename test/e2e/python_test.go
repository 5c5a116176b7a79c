package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// order is what testdata/send.py is to do.
type order struct {
	Host      string   `json:"host"`
	Port      int      `json:"port"`
	Name      string   `json:"name,omitempty"` // of the server, if host is an address
	TLS       string   `json:"tls"`            // none, starttls, implicit
	CA        string   `json:"ca,omitempty"`
	User      string   `json:"user,omitempty"`
	Password  string   `json:"password,omitempty"`
	Mechanism string   `json:"mechanism,omitempty"`
	From      string   `json:"from"`
	To        []string `json:"to"`
	File      string   `json:"file,omitempty"`
	UTF8      bool     `json:"utf8,omitempty"` // addresses are beyond ASCII
}

// answer is what came of it.
type answer struct {
	EHLO        float64           `json:"ehlo_ms"`
	Extensions  map[string]string `json:"extensions"`
	Certificate []string          `json:"certificate"`
	Login       int               `json:"login"`
	Refused     map[string]reply  `json:"refused"`
	Error       *reply            `json:"error"`
}

// reply is an SMTP reply as smtplib tells it: [code, text].
type reply struct {
	code int
	text string
}

func (r *reply) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&r.code, &r.text})
}

func (b *bed) smtplib(t testing.TB, o order) *exec.Cmd {
	t.Helper()
	return b.smtplibAs(t, siteUID, o)
}

func (b *bed) smtplibAs(t testing.TB, uid uint32, o order) *exec.Cmd {
	t.Helper()
	if o.From == "" {
		o.From = sender
	}
	if o.To == nil {
		o.To = []string{recipient}
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := b.programAs(uid, python, b.script(t, "send.py"))
	cmd.Stdin = bytes.NewReader(text)
	return cmd
}

// python sends by smtplib and returns what it says of that.
func (b *bed) python(t testing.TB, o order) answer {
	t.Helper()
	var a answer
	said := mustSucceed(t, b.smtplib(t, o))
	if err := json.Unmarshal([]byte(said), &a); err != nil {
		t.Fatalf("smtplib: %v: %s", err, said)
	}
	return a
}

func (b *bed) letterFile(l letter) string {
	b.t.Helper()
	return b.write(l.marker+".eml", string(l.text), 0o644, siteUID)
}

func TestPythonSmtplib(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: accountConfig(t)})
	ca := b.localCA()
	for _, c := range []struct {
		name  string
		order order
		want  trace
	}{
		{"submission", order{Host: "localhost", Port: 587, TLS: "starttls", CA: ca}, trace{"local process", "ESMTPS"}},
		{"submissions", order{Host: "::1", Port: 465, Name: "localhost", TLS: "implicit", CA: ca}, trace{"local process", "ESMTPS"}},
		{"by the host's name", order{Host: "127.0.0.1", Name: hostName, Port: 587, TLS: "starttls", CA: ca}, trace{"local process", "ESMTPS"}},
		{"alternate", order{Host: "localhost", Port: 2525, TLS: "none"}, trace{"local process", "ESMTP"}},
		{"account", order{Host: "localhost", Port: 587, TLS: "starttls", CA: ca, User: accountName, Password: accountPassword}, trace{"account", "ESMTPSA"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLetter()
			c.order.File = b.letterFile(l)
			if got := b.python(t, c.order); got.Error != nil || len(got.Refused) > 0 {
				t.Fatalf("smtplib says %+v", got)
			}
			b.arrived(t, l, c.want)
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		o := order{Host: "localhost", Port: 587, TLS: "starttls", CA: ca, User: accountName, Password: "guessed"}
		if said := mustFail(t, b.smtplib(t, o)); !bytes.Contains([]byte(said), []byte("SMTPAuthenticationError: (535, ")) {
			t.Errorf("smtplib says:\n%s", said)
		}
	})
}

// TestInternationalised: addresses beyond ASCII (RFC 6531), from the client to the
// relay and into the event.
func TestInternationalised(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	b.run.said.await(t, "relay is ready", 1) // so that it is known what it offers
	l := newLetter()
	from, to := "bestellung@käufe.example", "kund_in@straße.example"
	got := b.python(t, order{
		Host: "localhost", Port: 587, TLS: "starttls", CA: b.localCA(), From: from, To: []string{to}, File: b.letterFile(l), UTF8: true,
	})
	if got.Error != nil || len(got.Refused) > 0 {
		t.Fatalf("smtplib says %+v", got)
	}
	message, event := b.arrived(t, l, trace{"local process", "UTF8SMTPS"})
	if message.ReversePath != from || message.Recipients[0].Path != to || !slices.Contains(message.MailParams, "SMTPUTF8") {
		t.Errorf("the relay has the envelope %s -> %v, %v", message.ReversePath, message.Recipients, message.MailParams)
	}
	if event.ReversePath != from || event.Recipients[0].Address != to {
		t.Errorf("the event says %+v", event)
	}
}

// TestNagle: a client with Nagle's algorithm on must not wait for a delayed
// acknowledgement, which takes 40 ms, on its way from the handshake to EHLO. A
// busy machine may be that slow now and then, but not each time.
func TestNagle(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	best := 1e9
	for range 10 {
		best = min(best, b.python(t, order{Host: "localhost", Port: 587, TLS: "starttls", CA: b.localCA()}).EHLO)
		if best < 20 {
			return
		}
	}
	t.Errorf("the quickest EHLO took %.1f ms", best)
}

// TestRecipients: each recipient that the relay refuses for good has the relay's
// own reply, however many they are. For those that it will not take now the
// spool has the message, and for no others.
func TestRecipients(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	for _, n := range []int{16, 240} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 no such user", Contains: "nobody"})
			b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "450 4.2.1 mailbox is busy", Contains: "busy"})
			b.checkRecipients(t, n)
		})
	}
}

// checkRecipients sends to n recipients: the relay refuses a quarter of them, and
// does not take another quarter now.
func (b *bed) checkRecipients(t *testing.T, n int) {
	to := map[string][]string{}
	var all []string
	for i := range n {
		kind := []string{"nobody", "busy", "good", "good"}[i%4]
		all = append(all, fmt.Sprintf("%s%d@example.net", kind, i))
		to[kind] = append(to[kind], all[i])
	}
	l := newLetter()
	got := b.python(t, order{
		Host: "localhost", Port: 587, TLS: "starttls", CA: b.localCA(), From: sender, To: all, File: b.letterFile(l),
	})
	if got.Error != nil {
		t.Fatalf("smtplib says %+v, and the proxy\n%s", *got.Error, b.run.said)
	}
	for _, address := range all {
		if code := got.Refused[address].code; (code == 550) != slices.Contains(to["nobody"], address) || code != 550 && code != 0 {
			t.Fatalf("%s had the reply %+v", address, got.Refused[address])
		}
	}
	message := findOne(t, b.relay, l)
	checkReached(t, message, to["good"])
	txn := trace{"local process", "ESMTPS"}.check(t, l.compare(t, message.Bytes))
	event := b.transaction(t, txn)
	if event.Custody != audit.CustodySpool || event.PossibleDuplicate || event.RcptCount != n ||
		len(event.Recipients) != min(n, audit.MaxRecipients) || event.Recipients[0].ReplyCode != 550 || event.Recipients[1].ReplyCode != 250 {
		t.Errorf("the event says %+v", event)
	}
	b.checkBusy(t, l, txn, to["busy"])
}

// checkBusy: once their mailboxes are free, those have the letter who did not get
// it before.
func (b *bed) checkBusy(t *testing.T, l letter, txn string, busy []string) {
	t.Helper()
	b.checkStored(t, txn+".deferred")
	b.relay.ClearFaults()
	b.retry(t, txn)
	if event := b.awaitDelivery(t, txn); event.RcptCount != len(busy) || event.Recipients[0].ReplyCode != 250 || event.Attempt != 2 {
		t.Errorf("the event of the delivery says %+v", event)
	}
	copies := findAll(b.relay, l)
	if len(copies) != 2 {
		t.Fatalf("the relay has the letter %d times, want once for each kind of recipient", len(copies))
	}
	checkReached(t, copies[1], busy)
	l.compare(t, copies[1].Bytes)
	b.checkStored(t)
}

func checkReached(t *testing.T, message testkit.RelayMessage, want []string) {
	t.Helper()
	var reached []string
	for _, r := range message.Recipients {
		reached = append(reached, r.Path)
	}
	if !slices.Equal(reached, want) {
		t.Errorf("the relay has it for %v, want %v", reached, want)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
