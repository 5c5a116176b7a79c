package netns_test

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/rules"
)

// TestGuardPassesAnswersOn: of the host, from another host and
// from a resolver on this one, over IPv4 and IPv6, short, long and in fragments.
func TestGuardPassesAnswersOn(t *testing.T) {
	b := newLookupBed(t)
	b.listen()
	for _, c := range []struct {
		name   string
		from   *lab.Namespace
		server netip.AddrPort
		ask    string
	}{
		{"host over IPv4", b.Host, b.server(false), "smtp.example."},
		{"host over IPv6", b.Host, b.server(true), "smtp.example."},
		{"stub resolver", b.Host, lookupStub, "smtp.example."},
		{"long", b.Host, b.server(false), "60.example."},
		{"in IPv4 fragments", b.Host, b.server(false), "110.example."},
		{"in IPv6 fragments", b.Host, b.server(true), "110.example."},
		{"long on loopback", b.Host, lookupStub, "110.example."},
	} {
		want := b.ask(c.from, c.server, c.ask)
		if got := b.next(); !bytes.Equal(got, want) {
			t.Errorf("%s: heard\n%x\nwant\n%x", c.name, got, want)
		}
	}
	if got := b.ask(b.Host, b.server(false), "400.example."); len(got) < rules.AnswerSnap {
		t.Fatalf("%d octets are not too long", len(got))
	}
	b.nothingElse("an answer that is longer than what is copied")
	if status := b.status(); status.LookupsLost != 1 || len(status.Conditions) != 0 || !status.InForce {
		t.Errorf("%d lost, in force %v, conditions %v", status.LookupsLost, status.InForce, status.Conditions)
	}
}

// TestGuardPassesTranslatedAnswersOn: what sends questions to a resolver on
// another port hides no answer.
func TestGuardPassesTranslatedAnswersOn(t *testing.T) {
	b := newLookupBed(t)
	resolver := netip.MustParseAddrPort("127.0.0.1:5300")
	serveDNS(t, b.Host, resolver)
	b.load(b.Host, `table inet translating {
	chain elsewhere {
		type nat hook output priority -100
		ip daddr `+guardMX4.String()+` udp dport 53 redirect to :5300
	}
}
`)
	b.listen()
	for _, c := range []struct {
		name   string
		from   *lab.Namespace
		server netip.AddrPort
	}{
		{"another port", b.Host, netip.AddrPortFrom(guardMX4, 53)},
	} {
		want := b.ask(c.from, c.server, "smtp.example.")
		if got := b.next(); !bytes.Equal(got, want) {
			t.Errorf("%s: heard\n%x\nwant\n%x", c.name, got, want)
		}
	}
	b.nothingElse("besides")
}

// TestGuardPassesNothingElseOn: not what nobody asked for, no questions, and
// nothing from other ports.
func TestGuardPassesNothingElseOn(t *testing.T) {
	b := newLookupBed(t)
	b.listen()
	message, err := dnsAnswer(new(dns.Msg).SetQuestion("smtp.example.", dns.TypeA)).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, v6 := range []bool{false, true} {
		// From port 53, at a port where somebody waits, who asked somebody else.
		b.unsolicited(v6, b.Host, message)
		b.unsolicited(v6, b.Container, message)
	}
	elsewhere := netip.AddrPortFrom(b.Remote.Addr4(), 5353)
	serveDNS(t, b.Remote, elsewhere)
	b.ask(b.Host, elsewhere, "smtp.example.")
	ours := netip.AddrPortFrom(b.Host.Addr4(), 53)
	serveDNS(t, b.Host, ours)
	b.askFrom53(b.Remote, ours)
	b.ask(b.Container, b.server(false), "smtp.example.") // no client of ours
	b.nothingElse("unsolicited, a question from port 53, an answer from another port, or a container's")
	if status := b.status(); status.LookupsLost != 0 {
		t.Errorf("%d lost", status.LookupsLost)
	}
}

// unsolicited sends a packet from port 53 of the remote to a socket that waits for
// another's answer, and waits until it is there.
func (b *lookupBed) unsolicited(v6 bool, to *lab.Namespace, message []byte) {
	b.t.Helper()
	var waiting net.PacketConn
	err := to.Do(func() (err error) {
		waiting, err = net.ListenPacket("udp", netip.AddrPortFrom(to.Addr(v6), 0).String())
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	defer waiting.Close()
	from := netip.AddrPortFrom(b.secondServer(v6), 53)
	conn := b.udp(b.Remote, from, waiting.LocalAddr().(*net.UDPAddr).AddrPort())
	defer conn.Close()
	if _, err := conn.Write(message); err != nil {
		b.t.Fatal(err)
	}
	waiting.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, _, err := waiting.ReadFrom(make([]byte, 65535)); n != len(message) || err != nil {
		b.t.Fatalf("%d octets arrived, %v", n, err)
	}
}

// secondServer is an address of the remote that nobody asks.
func (b *lookupBed) secondServer(v6 bool) netip.Addr {
	if v6 {
		return guardMX6
	}
	return guardMX4
}

// askFrom53 asks a server as old resolvers do.
func (b *lookupBed) askFrom53(from *lab.Namespace, server netip.AddrPort) {
	b.t.Helper()
	conn := b.udp(from, netip.AddrPortFrom(b.secondServer(false), 53), server)
	defer conn.Close()
	packed, err := new(dns.Msg).SetQuestion("smtp.example.", dns.TypeA).Pack()
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := conn.Write(packed); err != nil {
		b.t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 512)); err != nil {
		b.t.Fatal(err)
	}
}

// TestGuardNotesNoAnswersUnlessItRedirects: without the rule there is nothing to
// hear, whoever listens.
func TestGuardNotesNoAnswersUnlessItRedirects(t *testing.T) {
	b := newLookupBed(t)
	b.listen()
	options := b.rules
	for name, change := range map[string]func(*rules.Options){
		"off":     func(o *rules.Options) { o.DNSAnswers = false },
		"observe": func(o *rules.Options) { o.Mode = rules.Observe },
		"reject":  func(o *rules.Options) { o.SubmissionPorts = rules.RejectSubmission },
	} {
		off := options
		change(&off)
		b.reload(off)
		if list := b.nft("list", "ruleset"); strings.Contains(list, "udp") {
			t.Errorf("%s: there is a rule:\n%s", name, list)
		}
		b.ask(b.Host, lookupStub, "smtp.example.")
		b.ask(b.Container, b.server(false), "smtp.example.")
		b.reload(options)
		b.nothingElse(name)
	}
}

func (b *lookupBed) reload(o rules.Options) {
	b.t.Helper()
	if err := b.guard.Reload(b.t.Context(), guard.Options{Rules: o}); err != nil {
		b.t.Fatal(err)
	}
}

// TestGuardNotesAnswersAgainAfterDrift: who takes the rule out is told of, and it
// is put back.
func TestGuardNotesAnswersAgainAfterDrift(t *testing.T) {
	b := newLookupBed(t)
	b.listen()
	b.nft("flush", "chain", "inet", rules.Table, "filter_input")
	e := b.events.await(t, 10*time.Second, "the drift", isDrift)
	if e.Outcome != audit.OutcomeRestored || !strings.Contains(e.Reason, "udp sport 53") {
		t.Errorf("the drift is told as %q: %s", e.Outcome, e.Reason)
	}
	b.nothingElse("while the rule was away")
}

// TestGuardUnderAFloodOfAnswers: one question, answered a hundred thousand times.
// What is passed on is bounded, and attempts are told in detail beside it.
func TestGuardUnderAFloodOfAnswers(t *testing.T) {
	const flood = 100_000
	b := newLookupBed(t)
	b.listen()
	server := netip.AddrPortFrom(guardMX4, 53)
	asker := b.udp(b.Host, netip.AddrPort{}, server)
	defer asker.Close()
	answerer := b.udp(b.Remote, server, asker.LocalAddr().(*net.UDPAddr).AddrPort())
	defer answerer.Close()
	if _, err := asker.Write([]byte("a question")); err != nil {
		t.Fatal(err)
	}
	if _, err := answerer.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	flooded := make(chan error, 1)
	go func() { // waited for below
		var err error
		for range flood {
			if _, err = answerer.Write(make([]byte, 200)); err != nil {
				break
			}
		}
		flooded <- err
	}()
	to := guardMX(false, 25)
	b.dial(b.Host, guardUID, to)
	e := b.events.await(t, 5*time.Second, "an attempt during the flood", isAttempt(to))
	if !e.Source.IsValid() || e.PeerUID != audit.KnownUID(guardUID) {
		t.Errorf("the attempt is told as %+v", e)
	}
	if err := <-flooded; err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	most := rules.AnswerBurst + int(took.Seconds()*rules.AnswerRate) + 10
	b.awaitQuiet()
	heard, lost := len(b.heard), int(b.status().LookupsLost)
	if all := heard + lost; all > most || all < rules.AnswerBurst || heard == 0 {
		t.Errorf("%d were passed on and %d lost, want %d at most", heard, lost, most)
	}
	if status := b.status(); status.LogLost != 0 || len(status.Conditions) != 0 {
		t.Errorf("of the attempts' log %d are lost, conditions %v", status.LogLost, status.Conditions)
	}
}

// awaitQuiet asks again and again until an answer gets through, which is the last.
func (b *lookupBed) awaitQuiet() {
	b.t.Helper()
	for {
		before := len(b.heard)
		b.ask(b.Host, lookupStub, "quiet.example.")
		select {
		case <-b.t.Context().Done():
			b.t.Fatal("never quiet")
		case <-time.After(100 * time.Millisecond):
		}
		if len(b.heard) == before+1 {
			<-b.heard
			return
		}
	}
}
