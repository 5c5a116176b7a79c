package policy

import (
	"net/mail"
	"strings"
	"testing"
	"time"
)

func TestFromAddresses(t *testing.T) {
	const bad = "bad"
	for _, c := range []struct{ header, want string }{
		// RFC 5322 section 3.4 and appendix A
		{"From: a@b.example\r\n", "a@b.example"},
		{"from:a@b.example", "a@b.example"},
		{"FROM : a@b.example\r\n", "a@b.example"}, // section 4.5: white space before the colon
		{"From:\r\n a@b.example\r\n", "a@b.example"},
		{"From: John Doe <jdoe@machine.example>\r\n", "jdoe@machine.example"},
		{"From: \"Joe Q. Public\" <john.q.public@example.com>\r\n", "john.q.public@example.com"},
		{"From: Joe Q. Public <john.q.public@example.com>\r\n", "john.q.public@example.com"}, // obs-phrase
		{"From: <boss@nil.test>\r\n", "boss@nil.test"},
		{"From: \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>\r\n", "sysservices@example.net"},
		{"From: a@b, C <c@d>\r\n", "a@b c@d"},
		{"From: A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;\r\n", "c@a.test joe@where.test jdoe@one.test"},
		{"From: Undisclosed recipients:;\r\n", ""},
		{"From: G: a@b; , c@d\r\n", "a@b c@d"},
		{"From: Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>\r\n", "pete@silly.test"},
		{"From: (Empty (nested (deep)) list)(start) a@b(end)\r\n", "a@b"},
		{"From: A <@node.test,@other.test:mary@example.net>\r\n", "mary@example.net"}, // obs-route
		{"From: A <, @node.test , ,@other.test: mary@example.net>\r\n", "mary@example.net"},
		{"From: john . doe @ machine . example\r\n", "john.doe@machine.example"}, // obs-local-part, obs-domain
		{"From: , a@b,,\r\n , c@d ,\r\n", "a@b c@d"},                             // obs-mbox-list
		{"From: A\r\n  <a@b>,\r\n\tB <c\r\n @d>\r\n", "a@b c@d"},
		{"From: \"a b\"@c, \"d\".e@f, \"x\\\"y\\\\\"@z\r\n", `"a b"@c d.e@f "x\"y\\"@z`},
		{"From: \"fold\r\n ed\" <a@b>\r\n", "a@b"},
		{"From: a@[192.0.2.1], b@[ IPv6:2001:db8::1 ]\r\n", "a@[192.0.2.1] b@[IPv6:2001:db8::1]"},
		{"From: =?utf-8?q?J=C3=BCrgen?= <a@b>\r\n", "a@b"},
		{"From: Jürgen <jürgen@bücher.example>\r\n", "jürgen@bücher.example"},
		{"From: J\xfcrgen <a@b>\r\n", "a@b"},
		{"From: root (Cron Daemon)\r\n", "root"},
		{"From: Cron Daemon <root>\r\n", "root"},
		{"From: \"evil@x\" <a@b>\r\n", "a@b"},
		{"From: (evil@x,) a@b\r\n", "a@b"},

		// which fields count, and where the section ends
		{"", ""},
		{"Subject: From: x@y\r\n", ""},
		{"X-From: a@b\r\nFrom-X: a@b\r\nResent-From: a@b\r\n", ""},
		{"Subject: x\r\n From: x@y\r\nTo: a@b\r\n", ""},
		{"From: a@b\r\nTo: x@y\r\nfrom: c@d\r\n", "a@b c@d"},
		{"Subject: x\r\nno field at all\r\nFrom: a@b\r\n", "a@b"}, // some readers skip the line
		{"From user@host Sat Nov 21 21:00:00 2026\r\nFrom: a@b\r\n", "a@b"},
		{"From: a@b\r\n\r\nFrom: c@d\r\n", "a@b"},
		{"\r\n From: a@b\r\n", ""},
		{"Subject: x\r\n\r\n body\r\nFrom: a@b\r\n", ""},
		{"From: a@b\r\n \r\nFrom: c@d\r\n", "a@b c@d"}, // a line of white space is folding, not the end
		{"From: a@b\r\r\nFrom: c@d\r\n", "a@b c@d"},
		{"From: a@b\nFrom: c@d\n\nFrom: e@f\n", "a@b c@d"},

		// what readers would differ in
		{" From: a@b\r\n", bad},
		{"From: a@b c@d\r\n", bad},
		{"From: a@b <c@d>\r\n", bad},
		{"From: <a@b> <c@d>\r\n", bad},
		{"From: <a@b>c\r\n", bad},
		{"From: a@b@c\r\n", bad},
		{"From: John Smith\r\n", bad},
		{"From: <>\r\n", bad},
		{"From: a@\r\n", bad},
		{"From: @b\r\n", bad},
		{"From: a@b.\r\n", bad},
		{"From: a@.b\r\n", bad},
		{"From: a..b@c\r\n", bad},
		{"From: .a@b\r\n", bad},
		{"From: a b@c\r\n", bad},
		{"From: a\"b\"@c\r\n", bad},
		{"From: \"a@b\r\n", bad},
		{"From: \"a\\", bad},
		{"From: (a@b\r\n", bad},
		{"From: a@b)\r\n", bad},
		{"From: (\\", bad},
		{"From: <a@b\r\n", bad},
		{"From: a@b>\r\n", bad},
		{"From: a@b;\r\n", bad},
		{"From: G: a@b\r\n", bad},
		{"From: G: H: a@b;;\r\n", bad},
		{"From: : a@b;\r\n", bad},
		{"From: a@[1[2]\r\n", bad},
		{"From: a@[12\r\n", bad},
		{"From: \xff\xfe@b\r\n", bad},
		{"From: a@b\x00\r\n", bad},
		{"From: a\x00 <a@b>\r\n", bad},
		{"From: \"a\\\r\n b\" <a@b>\r\n", bad},
		{"From: " + strings.Repeat("a@b,", maxFromAddresses+1) + "\r\n", bad},
		{"From: a@" + strings.Repeat("b", maxAddress) + "\r\n", bad},
		{"From: " + strings.Repeat("(x)", maxFromOctets/3) + "a@b\r\n", bad},
	} {
		addresses, err := FromAddresses([]byte(c.header))
		got := strings.Join(addresses, " ")
		if err != nil {
			got = bad
		}
		if got != c.want {
			t.Errorf("%.80q: %q (%v), want %q", c.header, got, err, c.want)
		}
	}
}

// TestFromAddressesCost gives the parser what makes careless ones quadratic or
// recursive.
func TestFromAddressesCost(t *testing.T) {
	const n = maxFromOctets - 10
	for _, value := range []string{
		strings.Repeat("(", n), strings.Repeat(",", n), strings.Repeat("a.", n/2), strings.Repeat("\"\"", n/2),
		strings.Repeat("<", n), strings.Repeat("a:", n/2), strings.Repeat("\r\n ", n/3), "<" + strings.Repeat("@a,", n/3),
		"a@" + strings.Repeat("xn--a.", n/6),
	} {
		start := time.Now()
		_, _ = FromAddresses([]byte("From: " + value + "\r\n")) // only the time matters
		if took := time.Since(start); took > time.Second {
			t.Errorf("%.10q repeated: %v", value, took)
		}
	}
}

// FuzzFromAddresses compares with net/mail where both accept: a different
// address would mean that a reader sees another author than the policy did.
func FuzzFromAddresses(f *testing.F) {
	for _, seed := range []string{
		"a@b", "A <a@b>, c@d", "G: a@b, \"x y\"@z;", "(c) a . b @ c", "<@a,@b:c@d>", "\"a\\\"b\"@[1.2.3.4]", "Jürgen <ü@ü>", "a b <c@d>",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsAny(value, "\r\n") {
			return
		}
		ours, err := FromAddresses([]byte("From: " + value + "\r\n"))
		if err != nil {
			return
		}
		for _, address := range ours {
			p, _ := New(Deny, []Rule{{Name: "r", Decision: Allow, Senders: []string{"*@allowed.example"}}})
			allowed := p.Sender(www, "", address).Result == Allow
			if allowed != strings.HasSuffix(strings.ToLower(address), "@allowed.example") && isASCII(address) {
				t.Errorf("%q: allowed is %v", address, allowed)
			}
		}
		theirs, err := mail.ParseAddressList(value)
		if err != nil {
			return // stricter than we: no domain, obsolete forms
		}
		if len(theirs) != len(ours) {
			t.Fatalf("%q: we read %q, net/mail %v", value, ours, theirs)
		}
		for i, their := range theirs {
			_, ourDomain, _ := strings.Cut(ours[i][strings.LastIndex(ours[i], "@"):], "@")
			theirDomain := their.Address[strings.LastIndex(their.Address, "@")+1:]
			if ourDomain != theirDomain {
				t.Errorf("%q: we read %q, net/mail %q", value, ours[i], their.Address)
			}
		}
	})
}
