package lookup

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// start is the epoch of the tests.
var start = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// response is a DNS message that a test describes.
type response struct {
	header    dnsmessage.Header
	questions []dnsmessage.Question
	answers   []dnsmessage.Resource
}

func asking(name string, t dnsmessage.Type) *response {
	return &response{
		header:    dnsmessage.Header{Response: true, RecursionDesired: true, RecursionAvailable: true},
		questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: t, Class: dnsmessage.ClassINET}},
	}
}

func (r *response) record(owner string, t dnsmessage.Type, ttl uint32, body dnsmessage.ResourceBody) *response {
	header := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(owner), Type: t, Class: dnsmessage.ClassINET, TTL: ttl}
	r.answers = append(r.answers, dnsmessage.Resource{Header: header, Body: body})
	return r
}

// address adds the A or AAAA record of owner.
func (r *response) address(owner, address string, ttl uint32) *response {
	a := netip.MustParseAddr(address)
	if a.Is4() {
		return r.record(owner, dnsmessage.TypeA, ttl, &dnsmessage.AResource{A: a.As4()})
	}
	return r.record(owner, dnsmessage.TypeAAAA, ttl, &dnsmessage.AAAAResource{AAAA: a.As16()})
}

func (r *response) alias(owner, target string, ttl uint32) *response {
	return r.record(owner, dnsmessage.TypeCNAME, ttl, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(target)})
}

func (r *response) pack(t testing.TB) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: r.header, Questions: r.questions, Answers: r.answers}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// simple is an answer that gives name, which ends with a dot, one address.
func simple(t testing.TB, name, address string) []byte {
	t.Helper()
	kind := dnsmessage.TypeA
	if netip.MustParseAddr(address).Is6() {
		kind = dnsmessage.TypeAAAA
	}
	return asking(name, kind).address(name, address, 300).pack(t)
}

func note(t testing.TB, table *Table, message []byte, now time.Time) {
	t.Helper()
	if err := table.Note(message, now); err != nil {
		t.Fatal(err)
	}
}
