package config

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
)

func TestEndpoints(t *testing.T) {
	for _, c := range []struct {
		relay Relay
		want  []Endpoint
	}{
		{Relay{Host: "r"}, []Endpoint{{"r", 587, TLSStartTLS}, {"r", 2525, TLSStartTLS}, {"r", 465, TLSImplicit}}},
		{Relay{Host: "r", TLS: TLSStartTLS}, []Endpoint{{"r", 587, TLSStartTLS}, {"r", 2525, TLSStartTLS}}},
		{Relay{Host: "r", TLS: TLSImplicit}, []Endpoint{{"r", 465, TLSImplicit}}},
		{Relay{Host: "::1", TLS: TLSNone}, []Endpoint{{"::1", 587, TLSNone}, {"::1", 2525, TLSNone}, {"::1", 465, TLSNone}}},
		{Relay{Host: "r", Port: 465}, []Endpoint{{"r", 465, TLSImplicit}}},
		{Relay{Host: "r", Port: 465, TLS: TLSStartTLS}, []Endpoint{{"r", 465, TLSStartTLS}}},
		{Relay{Host: "r", Port: 25}, []Endpoint{{"r", 25, TLSStartTLS}}},
	} {
		if got := c.relay.Endpoints(); !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %v, want %v", c.relay, got, c.want)
		}
	}
}

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "localhost.example.com": false, "ip6-localhost": false, "128.0.0.1": false, "::": false, "0.0.0.0": false, "::2": false, "smtp.example.com": false,
	} {
		if got := isLoopback(host); got != want {
			t.Errorf("%s: got %t, want %t", host, got, want)
		}
	}
}

func TestRedirects(t *testing.T) {
	ports := func(addresses ...string) []netip.AddrPort {
		var list []netip.AddrPort
		for _, address := range addresses {
			list = append(list, netip.MustParseAddrPort(address))
		}
		return list
	}
	for _, c := range []struct {
		name   string
		listen Listen
		want   map[uint16]uint16
	}{
		{"default", Default().Listen, map[uint16]uint16{587: 587, 465: 465, 2525: 2525}},
		{"none", Listen{}, map[uint16]uint16{}},
		{"one family", Listen{Submission: ports("127.0.0.1:587"), Submissions: ports("[::1]:465")}, map[uint16]uint16{}},
		{"wildcards", Listen{Submission: ports("0.0.0.0:1587", "[::]:1587"), Alternate: ports("[::]:2525", "127.0.0.1:2525")}, map[uint16]uint16{587: 1587, 2525: 2525}},
		{"a port each", Listen{Submission: ports("127.0.0.1:587", "[::1]:1587", "[::1]:587")}, map[uint16]uint16{587: 587}},
		{"elsewhere", Listen{Submission: ports("192.0.2.1:587", "[2001:db8::1]:587")}, map[uint16]uint16{}},
	} {
		if got := c.listen.Redirects(); !maps.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestSuggest(t *testing.T) {
	words := []string{"mode", "host", "relay", "delivery", "listen", "submission", "submissions", "max_message"}
	for text, want := range map[string]string{
		"moed": "mode", "mod": "mode", "Mode": "mode", "relays": "relay", "submision": "submission", "max-message": "max_message",
		"delivrey": "delivery", "colour": "", "": "", "x": "", "hosting": "", "relaying": "",
	} {
		if got := suggest(text, words); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestWider(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"*", "x", true}, {"*", "*", true}, {"*", "", true}, {"x", "x", true}, {"x", "y", false}, {"x", "*", false}, {"x*", "x", true},
		{"site-*", "site-1", true}, {"site-*", "site-a*", true}, {"site-*", "site*", false}, {"site-?", "site-*", false}, {"site-?", "site-?", true},
		{"site-?", "site-1", true}, {"site-1", "site-?", false}, {"?", "*", false}, {"*?", "?*", false}, {"*a*b", "xaxb", true}, {"*a*b", "*a*b", true},
		{"*a", "*ba", true}, {"a*c", "a*b", false}, {"?", "ü", true}, {"**", "x*", true}, {"", "", true}, {"", "*", false},
	} {
		if got := wider(c.a, c.b); got != c.want {
			t.Errorf("wider(%q, %q) = %t, want %t", c.a, c.b, got, c.want)
		}
	}
}
