package e2e_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// downstreamMain makes a client of ours of a Postfix on the host: it takes what
// local programs give it and knows one way out, with verified TLS.
const downstreamMain = `compatibility_level = 3.6
queue_directory = $DIR/queue
data_directory = $DIR/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
myhostname = vps1.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
maillog_file = $DIR/maillog
maillog_file_prefixes = $DIR
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
relayhost = [127.0.0.1]:587
smtp_tls_security_level = verify
smtp_tls_verify_cert_match = vps1.example
smtp_tls_CAfile = $CA
smtp_line_length_limit = 0
smtp_host_lookup = native
smtp_dns_support_level = disabled
`

const downstreamMaster = `127.0.0.1:10025 inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
discard unix - - n - - discard
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
`

// TestPostfixAsClient: a mail server on the host becomes our client. It pipelines
// a whole envelope, and keeps the message until it has a 250.
func TestPostfixAsClient(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	p := &postfix{where: b.Host, dir: b.path("downstream")}
	b.configurePostfix(p, map[string]string{"main.cf": downstreamMain, "master.cf": downstreamMaster})
	b.runPostfix(p, netip.MustParseAddrPort("127.0.0.1:10025"))
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 no such user", Contains: "nobody"})

	var to []string
	for i := range 40 {
		to = append(to, fmt.Sprintf("%s%d@example.net", []string{"good", "nobody"}[i%2], i))
	}
	l := newLetter()
	got := b.python(t, order{Host: "127.0.0.1", Port: 10025, TLS: "none", From: sender, To: to, File: b.letterFile(l)})
	if got.Error != nil || len(got.Refused) > 0 {
		t.Fatalf("Postfix says %+v", got)
	}
	b.checkDownstream(t, l)

	// While the relay is away its queue becomes ours.
	b.down(t, b.relay)
	l = newLetter()
	b.python(t, order{Host: "127.0.0.1", Port: 10025, TLS: "none", From: sender, To: to, File: b.letterFile(l)})
	b.awaitEvent(t, "the letter", func(e audit.Event) bool { return e.Custody == audit.CustodySpool })
	b.up(t, b.relay)
	b.output("queue", "retry", "--all")
	b.checkDownstream(t, l)
}

// checkDownstream: the relay has Postfix's letter for those that it takes, once
// for each. Postfix begins before it has read all recipients, so that it may take
// several transactions.
func (b *bed) checkDownstream(t *testing.T, l letter) {
	t.Helper()
	reached := func() (n int64) {
		for _, message := range findAll(b.relay, l) {
			n += int64(len(message.Recipients))
		}
		return n
	}
	awaitCount(t, "recipients reached", 20, reached)
	if n := reached(); n != 20 {
		t.Errorf("the relay has it for %d recipients, want 20", n)
	}
	for _, message := range findAll(b.relay, l) {
		// Ours comes before Postfix's own.
		ours, _, _ := strings.Cut(l.compare(t, message.Bytes), "Received: from client.example ")
		event := b.transaction(t, trace{"local process", "ESMTPS"}.check(t, ours))
		if event.PeerUser != "postfix" || event.RcptCount < len(message.Recipients) || event.TLSVersion == "" {
			t.Errorf("the event says %+v", event)
		}
	}
}
