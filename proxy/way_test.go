package proxy

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/relay"
)

// Recipients that a client pipelines are one flight to the relay with MAIL, and
// messages of many sessions share its connections.
func TestFlightsAndReuse(t *testing.T) {
	b := newStand(t, nil)
	before := b.relay.Counters()
	for range 3 {
		p := b.begin(t)
		for range 3 {
			p.pending.WriteString("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nRCPT TO:<d@example.net>\r\nDATA\r\n")
			p.flush()
			for _, code := range []string{"250", "250", "250", "250", "354"} {
				p.expectCode(code)
			}
			if reply := p.command("From: a@example.com\r\n\r\n."); reply[:3] != "250" {
				t.Fatal(reply)
			}
		}
		p.command("QUIT")
	}
	after := b.relay.Counters()
	if n := after.Connections - before.Connections; n != 0 {
		t.Errorf("%d new connections for one client after the other", n)
	}
	if n := after.Flights - before.Flights; n != 9*2 {
		t.Errorf("%d flights for 9 messages, want 2 each", n)
	}
}

// Parameters of DSN, 8BITMIME and SMTPUTF8 reach the relay as they were sent.
func TestParametersArePassedOn(t *testing.T) {
	b := newStand(t, nil)
	p := b.begin(t)
	p.command("MAIL FROM:<jürgen@example.com> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159 AUTH=<>")
	p.command("RCPT TO:<ä@example.net> NOTIFY=success,failure ORCPT=rfc822;b@example.net")
	p.command("DATA")
	if reply := p.command("From: jürgen@example.com\r\n\r\n."); reply[:3] != "250" {
		t.Fatal(reply)
	}
	m := b.relay.Messages()[0]
	if m.ReversePath != "jürgen@example.com" || !slices.Equal(m.MailParams, []string{"BODY=8BITMIME", "SMTPUTF8", "RET=HDRS", "ENVID=QQ314159"}) {
		t.Errorf("MAIL FROM:<%s> %v", m.ReversePath, m.MailParams)
	}
	if r := m.Recipients[0]; r.Path != "ä@example.net" || !slices.Equal(r.Params, []string{"NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;b@example.net"}) {
		t.Errorf("RCPT TO:<%s> %v", r.Path, r.Params)
	}
	if !strings.Contains(string(m.Bytes), "with UTF8SMTP id") {
		t.Errorf("%s", m.Bytes)
	}
}

// What the relay lacks is neither offered nor taken.
func TestExtensionsThatTheRelayLacks(t *testing.T) {
	for extension, line := range map[string]string{
		"8BITMIME": "MAIL FROM:<a@example.com> BODY=8BITMIME", "SMTPUTF8": "MAIL FROM:<a@example.com> SMTPUTF8", "DSN": "MAIL FROM:<a@example.com> RET=FULL",
	} {
		b := newStand(t, map[string]string{"without": extension})
		p := newPlayer(t, b.dial(t))
		p.expectCode("220")
		p.play("C: EHLO client.test")
		p.flush()
		for {
			offer, err := p.reader.ReadString('\n')
			if err != nil || strings.Contains(offer, extension) {
				t.Errorf("%s is offered: %q, %v", extension, offer, err)
			}
			if offer[3] == ' ' {
				break
			}
		}
		if reply := p.command(line); reply[:3] != "555" {
			t.Errorf("%s: %s", line, reply)
		}
	}
}

// A reload that replaces the relay: the transaction under way ends with the old
// one, policy and limits included; the next one, of the same session too, has the new.
func TestReload(t *testing.T) {
	b := newStand(t, nil)
	old := b.relay
	under := b.begin(t)
	under.envelope()
	next := b.newSettings(t, map[string]string{"policy": "sites"}) // b.relay is another one now
	b.server.Apply(next)
	b.settings.Relays.Order[0].Retire()
	for _, want := range []string{"250", "550"} {
		if reply := under.command("DATA"); reply[:3] != "354" {
			t.Fatal(reply)
		}
		if reply := under.command("Subject: no From\r\n\r\n."); reply[:3] != want {
			t.Fatal(reply)
		}
		under.envelope()
	}
	fresh := b.begin(t)
	if reply := fresh.deliver("Subject: no From\r\n\r\n"); reply[:3] != "550" {
		t.Fatal(reply)
	}
	if reply := fresh.deliver("From: a@example.com\r\n\r\n"); reply[:3] != "250" {
		t.Fatal(reply)
	}
	if len(old.Messages()) != 1 || len(b.relay.Messages()) != 1 {
		t.Fatalf("%d by the old relay, %d by the new one", len(old.Messages()), len(b.relay.Messages()))
	}
}

// One identity that opens transactions and stalls does not keep others out.
func TestStallingIdentity(t *testing.T) {
	b := newStand(t, map[string]string{"connections": "3", "relay_ms": "1000"})
	for range 2 {
		b.begin(t).envelope()
	}
	crowd := b.begin(t)
	crowd.command("MAIL FROM:<a@example.com>")
	if reply := crowd.command("RCPT TO:<b@example.net>"); reply[:3] != "250" {
		t.Fatal(reply)
	}
	if reply := sendData(crowd, "From: a@example.com\r\n\r\n"); !strings.HasPrefix(reply, "250 2.0.0 queued") {
		t.Fatal(reply)
	}
	other := testPeer("")
	other.UID = 34
	b.peer.be(somebody{other})
	if reply := b.begin(t).deliver("From: a@example.com\r\n\r\n"); reply[:3] != "250" {
		t.Fatal(reply)
	}
}

// The event of a delivery has all that the administrator asks about.
func TestEventOfADelivery(t *testing.T) {
	b := newStand(t, nil)
	p := b.begin(t)
	p.command("STARTTLS")
	p.play("TLS")
	p.command("EHLO client.test")
	p.command("MAIL FROM:<>")
	p.command("RCPT TO:<b@example.net>")
	p.command("DATA")
	reply := p.command("From: a@example.com\r\n\r\n.")
	p.command("QUIT")
	events := b.finish(t)
	if len(events) != 1 {
		t.Fatalf("%+v", events)
	}
	e := events[0]
	if !strings.HasSuffix(reply, "[smtpwall "+e.Txn+"]") {
		t.Errorf("the reply %q leads to no event of %s", reply, e.Txn)
	}
	uid, _ := e.PeerUID.Get()
	got := fmt.Sprintln(e.Kind, e.Listener, uid, e.PeerUser, e.PeerUnit, e.TLSVersion, e.ReversePath, e.Recipients, e.RcptCount, e.Size,
		e.Decision, e.Reason, e.Relay, e.RelayReply, e.ReplyCode, e.EnhancedCode, e.Custody, e.Error)
	want := fmt.Sprintln(audit.KindTransaction, Submission, 33, "www-data", "php8.2-fpm.service", tls.VersionName(tls.VersionTLS13), "<>",
		[]audit.Recipient{{Address: "b@example.net", ReplyCode: 250}}, 1, 23, "allow", "proven local identity", "main",
		"250 2.0.0 Ok: queued as R1", 250, "2.0.0", audit.CustodyRelay, "")
	if got != want {
		t.Errorf("event\n%s, want\n%s", got, want)
	}
}

// Octets of a client that were sent in clear behind STARTTLS, in one piece or
// late, never become commands.
func TestClearTextDoesNotSurviveTLS(t *testing.T) {
	b := newStand(t, nil)
	p := b.begin(t)
	p.command("STARTTLS")
	p.pending.WriteString("MAIL FROM:<injected@example.com>\r\n") // in place of, and in front of, a handshake
	p.play("TLS")
	if conn, ok := p.conn.(*tls.Conn); !ok || conn.Handshake() == nil {
		t.Fatal("a handshake came about behind words in clear")
	}
	checkEvents(t, b.finish(t), audit.KindSession, "", "TLS handshake failed")
}

// A relay that went away, with connections kept to it, costs no message while
// the next one is there.
func TestNextRelay(t *testing.T) {
	b := newStand(t, nil)
	first, gone := b.settings.Relays.Order[0], b.relay
	second := b.newSettings(t, nil).Relays.Order[0]
	next := *b.settings
	next.Relays.Order = []*relay.Pool{first, second}
	b.server.Apply(&next)
	_ = gone.Close()
	p := b.begin(t)
	for range 3 {
		if reply := p.deliver("From: a@example.com\r\n\r\n"); reply[:3] != "250" {
			t.Fatal(reply)
		}
	}
	if n := len(b.relay.Messages()); n != 3 {
		t.Fatalf("the second relay has %d messages", n)
	}
	for _, event := range b.finish(t) {
		if event.Error != "" || event.Custody != audit.CustodyRelay {
			t.Errorf("%+v", event)
		}
	}
}
