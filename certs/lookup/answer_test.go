package lookup

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
)

const (
	a    = dnsmessage.TypeA
	aaaa = dnsmessage.TypeAAAA
)

// TestNote is what an answer says about its addresses.
func TestNote(t *testing.T) {
	tests := []struct {
		name    string
		message *response
		want    map[string]string // address → names
	}{
		{"one address", asking("smtp.example.com.", a).address("smtp.example.com.", "192.0.2.25", 300),
			map[string]string{"192.0.2.25": "smtp.example.com"}},
		{"IPv6", asking("smtp.example.com.", aaaa).address("smtp.example.com.", "2001:db8::25", 300),
			map[string]string{"2001:db8::25": "smtp.example.com"}},
		{"several", asking("smtp.example.com.", a).address("smtp.example.com.", "192.0.2.25", 300).address("smtp.example.com.", "192.0.2.26", 300),
			map[string]string{"192.0.2.25": "smtp.example.com", "192.0.2.26": "smtp.example.com"}},
		{"in mixed case", asking("sMtP.eXample.COM.", a).address("SmTp.example.com.", "192.0.2.25", 300),
			map[string]string{"192.0.2.25": "smtp.example.com"}},
		{"over a chain", asking("mail.example.com.", a).alias("mail.example.com.", "MX.example.net.", 60).
			alias("mx.example.net.", "host.example.org.", 60).address("host.example.ORG.", "192.0.2.25", 300),
			map[string]string{"192.0.2.25": "mail.example.com"}},
		{"among records of others", asking("mail.example.com.", a).address("bank.example.", "192.0.2.66", 300).
			address("mail.example.com.", "192.0.2.25", 300).alias("bank.example.", "mail.example.com.", 60),
			map[string]string{"192.0.2.25": "mail.example.com", "192.0.2.66": ""}},
		{"aside of the chain", asking("mail.example.com.", a).alias("mail.example.com.", "mx.example.net.", 60).
			address("mail.example.com.", "192.0.2.66", 300).address("mx.example.net.", "192.0.2.25", 300),
			map[string]string{"192.0.2.25": "mail.example.com", "192.0.2.66": ""}},
		{"in a circle", asking("a.example.", a).alias("a.example.", "b.example.", 60).alias("b.example.", "a.example.", 60).
			address("a.example.", "192.0.2.25", 300), map[string]string{"192.0.2.25": "a.example"}},
		{"of the other family", asking("a.example.", a).address("a.example.", "2001:db8::25", 300),
			map[string]string{"2001:db8::25": ""}},
		{"mapped IPv4", asking("a.example.", aaaa).address("a.example.", "::ffff:192.0.2.25", 300),
			map[string]string{"192.0.2.25": "a.example"}},
		{"of this host and of none", asking("a.example.", a).address("a.example.", "127.0.0.1", 300).address("a.example.", "127.8.8.8", 300).
			address("a.example.", "0.0.0.0", 300).address("a.example.", "224.0.0.1", 300).address("a.example.", "192.0.2.25", 300),
			map[string]string{"127.0.0.1": "", "127.8.8.8": "", "0.0.0.0": "", "224.0.0.1": "", "192.0.2.25": "a.example"}},
		{"of this host and of none, IPv6", asking("a.example.", aaaa).address("a.example.", "::1", 300).address("a.example.", "::", 300).
			address("a.example.", "ff02::1", 300).address("a.example.", "::ffff:127.0.0.1", 300),
			map[string]string{"::1": "", "::": "", "ff02::1": "", "127.0.0.1": "", "::ffff:127.0.0.1": ""}},
		{"without an answer", asking("a.example.", a), nil},
		{"alias that leads nowhere", asking("a.example.", a).alias("a.example.", "b.example.", 60), nil},
		{"names with an underscore", asking("my_db.example.", a).address("my_db.example.", "192.0.2.25", 300),
			map[string]string{"192.0.2.25": "my_db.example"}},
		{"single label", asking("db.", a).address("db.", "192.0.2.25", 300), map[string]string{"192.0.2.25": "db"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			table := New(Options{})
			note(t, table, test.message.pack(t), start)
			noted := 0
			for address, want := range test.want {
				if got := strings.Join(table.Names(netip.MustParseAddr(address), start), " "); got != want {
					t.Errorf("%s has the names %q, want %q", address, got, want)
				}
				if want != "" {
					noted++
				}
			}
			if have := table.once.Len() + table.proven.Len(); have != noted {
				t.Errorf("%d addresses known, want %d", have, noted)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	good := func() *response { return asking("a.example.", a).address("a.example.", "192.0.2.25", 300) }
	changed := func(change func(*response)) []byte {
		r := good()
		change(r)
		return r.pack(t)
	}
	long := strings.Repeat("a", 63)
	tooLong := strings.Join([]string{long, long, long, strings.Repeat("b", 61)}, ".")
	many := asking("a.example.", a)
	for range maxRecords + 1 {
		many.address("a.example.", "192.0.2.25", 300)
	}
	whole := good().pack(t)
	wrongLength := slices.Clone(whole)
	wrongLength[len(wrongLength)-5] = 3
	tests := []struct {
		name    string
		message []byte
		want    string
	}{
		{"empty", nil, "reading a DNS answer"},
		{"half a header", whole[:11], "reading a DNS answer"},
		{"query", changed(func(r *response) { r.header.Response = false }), "not a successful answer"},
		{"NXDOMAIN", changed(func(r *response) { r.header.RCode = dnsmessage.RCodeNameError }), "not a successful answer"},
		{"SERVFAIL", changed(func(r *response) { r.header.RCode = dnsmessage.RCodeServerFailure }), "not a successful answer"},
		{"status", changed(func(r *response) { r.header.OpCode = 2 }), "not a successful answer"},
		{"update", changed(func(r *response) { r.header.OpCode = 5 }), "not a successful answer"},
		{"no question", changed(func(r *response) { r.questions = nil }), "reading a DNS question"},
		{"two questions", changed(func(r *response) { r.questions = append(r.questions, r.questions[0]) }), "not one question"},
		{"class ANY", changed(func(r *response) { r.questions[0].Class = dnsmessage.ClassANY }), "not one question"},
		{"class CHAOS", changed(func(r *response) { r.questions[0].Class = dnsmessage.ClassCHAOS }), "not one question"},
		{"type PTR", changed(func(r *response) { r.questions[0].Type = dnsmessage.TypePTR }), "not one question"},
		{"type ALL", changed(func(r *response) { r.questions[0].Type = dnsmessage.TypeALL }), "not one question"},
		{"type HTTPS", changed(func(r *response) { r.questions[0].Type = dnsmessage.Type(65) }), "not one question"},
		{"type MX", changed(func(r *response) { r.questions[0].Type = dnsmessage.TypeMX }), "not one question"},
		{"root", simple(t, ".", "192.0.2.25"), "no host name"},
		{"space", simple(t, "a b.example.", "192.0.2.25"), "no host name"},
		{"wildcard", simple(t, "*.example.", "192.0.2.25"), "no host name"},
		{"octet 0", simple(t, "a\x00.example.", "192.0.2.25"), "no host name"},
		{"U-label", simple(t, "bücher.example.", "192.0.2.25"), "no host name"},
		{"too many records", many.pack(t), "too many records"},
		{"cut in the question", whole[:20], "reading a DNS question"},
		{"cut in the record", whole[:len(whole)-12], "reading a DNS record"},
		{"cut in the address", whole[:len(whole)-1], "wrong length"},
		{"address of three octets", wrongLength, "wrong length"},
		{"compression in a circle", append(slices.Clone(whole[:12]), 0xc0, 12, 0, 1, 0, 1), "too many"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			table := New(Options{})
			if err := table.Note(test.message, start); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("noted: %v, want an error with %q", err, test.want)
			}
			if table.once.Len()+table.proven.Len() != 0 {
				t.Error("something was noted")
			}
		})
	}
	t.Run("longest name", func(t *testing.T) {
		table := New(Options{})
		note(t, table, simple(t, tooLong[1:]+".", "192.0.2.25"), start)
		if got := table.Names(netip.MustParseAddr("192.0.2.25"), start); len(got) != 1 || got[0] != tooLong[1:] {
			t.Errorf("names %q", got)
		}
	})
}

// TestOtherEncoder notes what another implementation packs, with compression, EDNS and authority behind the answer.
func TestOtherEncoder(t *testing.T) {
	m := new(dns.Msg)
	m.SetQuestion("mail.example.com.", dns.TypeA)
	m.Response, m.Compress = true, true
	for _, text := range []string{"mail.example.com. 60 IN CNAME mx.example.com.", "mx.example.com. 60 IN RRSIG CNAME 8 3 60 20300101000000 20200101000000 1 example.com. AAAA",
		"mx.example.com. 60 IN A 192.0.2.25", "mx.example.com. 60 IN A 192.0.2.26"} {
		record, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, record)
	}
	m.Ns = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: "ns.example.com."}}
	m.Extra = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "mail.example.com.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 99)}}
	m.SetEdns0(1232, true)
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	table := New(Options{})
	note(t, table, packed, start)
	for address, want := range map[string]int{"192.0.2.25": 1, "192.0.2.26": 1, "192.0.2.99": 0} {
		if got := table.Names(netip.MustParseAddr(address), start); len(got) != want {
			t.Errorf("%s has the names %q, want %d", address, got, want)
		}
	}
}

// TestAddressesOfAMessage: one message cannot sweep the table.
func TestAddressesOfAMessage(t *testing.T) {
	r := asking("a.example.", a)
	for i := range maxRecords {
		r.address("a.example.", fmt.Sprintf("192.0.2.%d", i+1), 300)
	}
	table := New(Options{})
	note(t, table, r.pack(t), start)
	if table.once.Len() != maxAddresses {
		t.Errorf("%d addresses noted, want %d", table.once.Len(), maxAddresses)
	}
}

// TestAge holds when a name is forgotten: its TTL, the shortest of the chain, within ten minutes and a day.
func TestAge(t *testing.T) {
	const hour = 3600
	tests := []struct {
		name             string
		alias, addresses uint32
		want             time.Duration
	}{
		{"zero", hour, 0, 10 * time.Minute},
		{"seconds", hour, 5, 10 * time.Minute},
		{"an hour", hour, hour, time.Hour},
		{"a short alias", hour / 2, hour, time.Hour / 2},
		{"a week", 7 * 24 * hour, 7 * 24 * hour, 24 * time.Hour},
		{"the highest bit", 1<<31 + 5000, 7 * 24 * hour, 10 * time.Minute},
	}
	address := netip.MustParseAddr("192.0.2.25")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			table := New(Options{})
			message := asking("a.example.", a).alias("a.example.", "b.example.", test.alias).address("b.example.", address.String(), test.addresses)
			note(t, table, message.pack(t), start)
			if got := table.Names(address, start.Add(test.want-time.Second)); len(got) != 1 {
				t.Errorf("forgotten before %v", test.want)
			}
			if got := table.Names(address, start.Add(test.want)); len(got) != 0 {
				t.Errorf("%q known after %v", got, test.want)
			}
			if table.once.Len()+table.proven.Len()+table.names != 0 {
				t.Error("something is kept of what has expired")
			}
		})
	}
}
