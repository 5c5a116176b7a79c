package dns01

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// fakeServer is at 127.0.0.1:53, over TCP, and says what answer returns for a
// message; nothing more after nil.
func fakeServer(t *testing.T, answer func(question *dns.Msg, mac string) []byte) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { listener.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			raw, err := (&dns.Conn{Conn: conn}).ReadMsgHeader(nil)
			question := new(dns.Msg)
			if err != nil || question.Unpack(raw) != nil {
				continue
			}
			mac := ""
			if signature := question.IsTsig(); signature != nil {
				mac = signature.MAC
			}
			if octets := answer(question, mac); octets != nil {
				conn.Write(octets)
				conn.Close()
			}
		}
	}()
}

// framed is a message as it goes over TCP.
func framed(t *testing.T, message *dns.Msg) []byte {
	t.Helper()
	raw, err := message.Pack()
	if err != nil {
		t.Error(err)
	}
	return frame(raw)
}

func frame(raw []byte) []byte { return append([]byte{byte(len(raw) >> 8), byte(len(raw))}, raw...) }

// signedReply is one to a question, signed by the secret at that time.
func signedReply(t *testing.T, question *dns.Msg, mac, secret string, at time.Time) []byte {
	t.Helper()
	k, err := newKey("smtpwall", "", secret)
	if err != nil {
		t.Error(err)
	}
	reply := new(dns.Msg).SetReply(question)
	reply.SetTsig("SMTPWALL.", "HMAC-SHA256.", fudge, at.Unix())
	raw, _, err := dns.TsigGenerateWithProvider(reply, k, mac, false)
	if err != nil {
		t.Error(err)
	}
	return frame(raw)
}

// refusing is a reply with an rcode, and with a TSIG error if that is not 0.
func refusing(t *testing.T, question *dns.Msg, rcode int, tsig uint16, other string) []byte {
	t.Helper()
	reply := new(dns.Msg).SetRcode(question, rcode)
	if tsig != 0 {
		reply.Extra = []dns.RR{&dns.TSIG{Hdr: dns.RR_Header{Name: "smtpwall.", Rrtype: dns.TypeTSIG, Class: dns.ClassANY}, Algorithm: dns.HmacSHA256,
			TimeSigned: 1, Fudge: fudge, OrigId: question.Id, Error: tsig, OtherLen: uint16(len(other) / 2), OtherData: other}}
	}
	return framed(t, reply)
}

// TestUpdateByAStranger: whoever answers must have the key, and say yes.
func TestUpdateByAStranger(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(question *dns.Msg, mac string) []byte
		want   string
	}{
		"yes": {func(q *dns.Msg, mac string) []byte { return signedReply(t, q, mac, secret, time.Now()) }, ""},
		"yes, four minutes ago": {func(q *dns.Msg, mac string) []byte {
			return signedReply(t, q, mac, secret, time.Now().Add(-4*time.Minute))
		}, ""},

		"no signature":   {func(q *dns.Msg, _ string) []byte { return framed(t, new(dns.Msg).SetReply(q)) }, "answers without a signature: whatever answers there is not trusted"},
		"another secret": {func(q *dns.Msg, mac string) []byte { return signedReply(t, q, mac, "eA==", time.Now()) }, "the signature on the answer of the server 127.0.0.1 is not of the key smtpwall (dns: bad signature)"},
		"of another update": {func(q *dns.Msg, _ string) []byte {
			return signedReply(t, q, strings.Repeat("00", 32), secret, time.Now())
		}, "is not of the key smtpwall (dns: bad signature)"},
		"an hour ago": {func(q *dns.Msg, mac string) []byte {
			return signedReply(t, q, mac, secret, time.Now().Add(-time.Hour))
		}, "the clocks of the server 127.0.0.1 and of this host differ by more than 5 minutes (BADTIME, there it is "},
		"another key": {func(q *dns.Msg, _ string) []byte {
			return framed(t, &dns.Msg{MsgHdr: dns.MsgHdr{Id: q.Id, Response: true, Opcode: q.Opcode},
				Extra: []dns.RR{&dns.TSIG{Hdr: dns.RR_Header{Name: "other.", Rrtype: dns.TypeTSIG, Class: dns.ClassANY}, Algorithm: dns.HmacSHA256, OrigId: q.Id}}})
		}, "is not of the key smtpwall (dns: bad key)"},
		"a cut signature": {func(q *dns.Msg, mac string) []byte {
			raw := signedReply(t, q, mac, secret, time.Now())
			reply := new(dns.Msg)
			if err := reply.Unpack(raw[2:]); err != nil {
				t.Error(err)
			}
			signature := reply.IsTsig()
			signature.MAC, signature.MACSize = signature.MAC[:20], 10
			return framed(t, reply)
		}, "is not of the key smtpwall (dns: bad signature)"},

		"closes":           {func(*dns.Msg, string) []byte { return []byte{} }, "the server 127.0.0.1 does not answer: EOF; is its address right, and its TCP port open to this host?"},
		"cut":              {func(q *dns.Msg, _ string) []byte { return framed(t, new(dns.Msg).SetReply(q))[:20] }, "does not answer: unexpected EOF"},
		"short":            {func(*dns.Msg, string) []byte { return []byte{0, 3, 1, 2, 3} }, "does not answer: dns: short read"},
		"empty":            {func(*dns.Msg, string) []byte { return []byte{0, 0} }, "does not answer: dns: short read"},
		"garbage":          {func(*dns.Msg, string) []byte { return frame([]byte(strings.Repeat("\xff", 600))) }, "answers what is not DNS: bad question name: dns: "},
		"SMTP":             {func(*dns.Msg, string) []byte { return []byte("220 mail.example.net ESMTP\r\n") }, "does not answer: unexpected EOF"},
		"another id":       {func(q *dns.Msg, _ string) []byte { q.Id++; return framed(t, new(dns.Msg).SetReply(q)) }, "answers something else than it was asked"},
		"an echo":          {func(q *dns.Msg, _ string) []byte { return framed(t, q) }, "answers something else than it was asked"},
		"another question": {func(q *dns.Msg, _ string) []byte { return framed(t, new(dns.Msg).SetQuestion("x.", dns.TypeA)) }, "answers something else than it was asked"},
		"another zone": {func(q *dns.Msg, _ string) []byte {
			reply := new(dns.Msg).SetReply(q)
			reply.Question[0].Name = "example.com."
			return framed(t, reply)
		}, "answers something else than it was asked"},

		"REFUSED":  {func(q *dns.Msg, _ string) []byte { return refusing(t, q, dns.RcodeRefused, 0, "") }, "allow the key smtpwall to update TXT at _acme-challenge.mail.example.net"},
		"NOTIMP":   {func(q *dns.Msg, _ string) []byte { return refusing(t, q, dns.RcodeNotImplemented, 0, "") }, "the server 127.0.0.1 does not take updates (NOTIMP)"},
		"SERVFAIL": {func(q *dns.Msg, _ string) []byte { return refusing(t, q, dns.RcodeServerFailure, 0, "") }, "the server 127.0.0.1 could not update example.net (SERVFAIL): its log says why"},
		"FORMERR":  {func(q *dns.Msg, _ string) []byte { return refusing(t, q, dns.RcodeFormatError, 0, "") }, "the server 127.0.0.1 did not update _acme-challenge.mail.example.net in the zone example.net (FORMERR)"},
		"13":       {func(q *dns.Msg, _ string) []byte { return refusing(t, q, 13, 0, "") }, "in the zone example.net (RCODE13)"},
		"NOTAUTH":  {func(q *dns.Msg, _ string) []byte { return refusing(t, q, dns.RcodeNotAuth, 0, "") }, "does not have the zone example.net (NOTAUTH)"},
		"BADTIME": {func(q *dns.Msg, _ string) []byte {
			return refusing(t, q, dns.RcodeNotAuth, dns.RcodeBadTime, "000000000001")
		}, "(BADTIME, there it is 1970-01-01T00:00:01Z, here 20"},
		"BADTIME, no time": {func(q *dns.Msg, _ string) []byte { return refusing(t, q, dns.RcodeNotAuth, dns.RcodeBadTime, "00") }, "(BADTIME): set the one that is wrong"},
		"BADTRUNC":         {func(q *dns.Msg, _ string) []byte { return refusing(t, q, dns.RcodeNotAuth, dns.RcodeBadTrunc, "") }, "does not accept the signature of the key smtpwall (BADTRUNC)"},
		"a yes with BADKEY": {func(q *dns.Msg, _ string) []byte {
			return refusing(t, q, dns.RcodeSuccess, dns.RcodeBadKey, hex.EncodeToString([]byte("x")))
		}, "(BADKEY)"},
	} {
		t.Run(name, func(t *testing.T) {
			fakeServer(t, c.answer)
			u := updateAt("127.0.0.1")
			u.Zone, u.Resolvers = "example.net", []string{hostResolver} // nobody
			wantError(t, u.Present(within(t), challenge("mail.example.net", "x")), c.want)
		})
	}
}

// TestUpdateOfAServerThatIsSilent ends with its context, in time or at once.
func TestUpdateOfAServerThatIsSilent(t *testing.T) {
	asked := make(chan struct{}, 1)
	fakeServer(t, func(*dns.Msg, string) []byte { asked <- struct{}{}; return nil })
	u := updateAt("127.0.0.1")
	u.Zone, u.Resolvers = "example.net", []string{hostResolver}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := u.Present(ctx, challenge("mail.example.net", "x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	<-asked
	ctx, cancel = context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	began := time.Now()
	if err := u.Present(ctx, challenge("mail.example.net", "x")); !errors.Is(err, context.Canceled) || time.Since(began) > exchangeTime/2 {
		t.Errorf("error %v after %v", err, time.Since(began))
	}
}

// fakeNames is at 127.0.0.1:53 over UDP and sends what answer returns, one
// datagram each.
func fakeNames(t *testing.T, answer func(question *dns.Msg) [][]byte) {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { socket.Close(); <-ended })
	go func() {
		defer close(ended)
		buffer := make([]byte, 2048)
		for {
			n, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return
			}
			question := new(dns.Msg)
			if question.Unpack(buffer[:n]) != nil {
				continue
			}
			for _, datagram := range answer(question) {
				socket.WriteTo(datagram, from)
			}
		}
	}()
}

// records is a reply of a resolver.
func records(t *testing.T, question *dns.Msg, lines ...string) *dns.Msg {
	t.Helper()
	reply := new(dns.Msg).SetReply(question)
	reply.RecursionAvailable = true
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Error(err)
		}
		reply.Answer = append(reply.Answer, rr)
	}
	return reply
}

func packed(t *testing.T, message *dns.Msg) []byte { t.Helper(); return framed(t, message)[2:] }

// TestLookUpByAStranger: what does not belong to the question is waited out,
// what was cut is asked for by TCP.
func TestLookUpByAStranger(t *testing.T) {
	right := func(q *dns.Msg) []byte { return packed(t, records(t, q, "a.example.net. CNAME b.example.net.")) }
	for name, c := range map[string]struct {
		answer func(q *dns.Msg) [][]byte
		tcp    bool
		want   string // of the error
	}{
		"right": {func(q *dns.Msg) [][]byte { return [][]byte{right(q)} }, false, ""},
		"garbage before": {func(q *dns.Msg) [][]byte {
			return [][]byte{[]byte(strings.Repeat("\xff", 40)), right(q)}
		}, false, ""},
		"another id before": {func(q *dns.Msg) [][]byte {
			forged := records(t, q, "a.example.net. CNAME forged.example.net.")
			forged.Id++
			return [][]byte{packed(t, forged), right(q)}
		}, false, ""},
		"another question before": {func(q *dns.Msg) [][]byte {
			forged := records(t, q, "a.example.net. CNAME forged.example.net.")
			forged.Question[0].Name = "x.example.net."
			return [][]byte{packed(t, forged), right(q)}
		}, false, ""},
		"cut": {func(q *dns.Msg) [][]byte {
			cut := records(t, q)
			cut.Truncated = true
			return [][]byte{packed(t, cut)}
		}, true, ""},
		"cut for good": {func(q *dns.Msg) [][]byte {
			cut := records(t, q)
			cut.Truncated = true
			return [][]byte{packed(t, cut)}
		}, false, "looking up a.example.net: 127.0.0.1: dial tcp 127.0.0.1:53: connect: connection refused"},
		"silent": {func(q *dns.Msg) [][]byte { return nil }, true, ""},
		"SERVFAIL": {func(q *dns.Msg) [][]byte {
			return [][]byte{packed(t, new(dns.Msg).SetRcode(q, dns.RcodeServerFailure))}
		}, false, "looking up a.example.net: 127.0.0.1: SERVFAIL"},
		"a referral": {func(q *dns.Msg) [][]byte { return [][]byte{packed(t, new(dns.Msg).SetReply(q))} }, false, "looking up a.example.net: 127.0.0.1: knows only who knows"},
		"a long way": {func(q *dns.Msg) [][]byte {
			name := q.Question[0].Name
			return [][]byte{packed(t, records(t, q, name+" CNAME x."+name))}
		}, false, "more than 8 CNAMEs lead on from A.example.net"},
	} {
		t.Run(name, func(t *testing.T) {
			fakeNames(t, func(q *dns.Msg) [][]byte {
				if q.Question[0].Name == "b.example.net." {
					return [][]byte{packed(t, records(t, q))}
				}
				return c.answer(q)
			})
			if c.tcp {
				fakeServer(t, func(q *dns.Msg, _ string) []byte { return frame(right(q)) })
			}
			got, err := finder{[]string{"127.0.0.1"}}.alias(within(t), "A.example.net")
			wantError(t, err, c.want)
			if c.want == "" && got != "b.example.net." {
				t.Errorf("leads to %s", got)
			}
		})
	}
}
