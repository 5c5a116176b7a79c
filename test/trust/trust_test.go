package trust_test

import (
	"testing"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// TestClients: each client refuses the certificate for a foreign name, takes it
// once the local CA is trusted, and refuses it again.
func TestClients(t *testing.T) {
	before, err := digest("/etc/ssl/certs/ca-certificates.crt", "/usr/local/share/ca-certificates")
	if err != nil {
		t.Fatal(err)
	}
	b := newBed(t, "any", "")
	clients := b.clients(t)

	b.expect(t, "before", clients, targets(), false)
	for i, changed := range []bool{true, false} {
		if report, status := b.trust(t, "install"); status != 0 || report.Changed != changed {
			t.Fatalf("install %d: status %d, %+v", i+1, status, report)
		}
	}
	if report, status := b.trust(t, "status"); status != 0 || !report.Stores[0].Current {
		t.Errorf("status %d, %+v", status, report)
	}
	b.expect(t, "installed", clients, targets(), true)
	for i, changed := range []bool{true, false} {
		if report, status := b.trust(t, "remove"); status != 0 || report.Changed != changed {
			t.Fatalf("remove %d: status %d, %+v", i+1, status, report)
		}
	}
	if report, status := b.trust(t, "status"); status != 3 || report.Stores[0].Current {
		t.Errorf("status %d, %+v", status, report)
	}
	b.expect(t, "removed", clients, targets(), false)

	after, err := digest("/etc/ssl/certs/ca-certificates.crt", "/usr/local/share/ca-certificates")
	if err != nil || after != before {
		t.Errorf("the store is not what it was: %v", err)
	}
}

// TestConstrainedCA: a local CA that may sign for some names and networks alone is good for these.
func TestConstrainedCA(t *testing.T) {
	b := newBed(t, "constrained", "[certificates]\nca_names = [\"vps1.example\", \"foreign.example\", \"203.0.113.0/24\"]\n")
	clients := b.clients(t)
	if report, status := b.trust(t, "install"); status != 0 || !report.Changed {
		t.Fatalf("install: status %d, %+v", status, report)
	}
	b.expect(t, "installed", clients, []target{
		{host: foreignName, port: "587"}, {host: foreign4.String(), port: "465", implicit: true},
	}, true)
	if report, status := b.trust(t, "remove"); status != 0 || !report.Changed {
		t.Errorf("remove: status %d, %+v", status, report)
	}
}

// targets are a server by its name and by its addresses, on both ports.
func targets() []target {
	return []target{
		{host: foreignName, port: "587"}, {host: foreignName, port: "465", implicit: true},
		{host: foreign4.String(), port: "465", implicit: true}, {host: foreign6.String(), port: "587"},
	}
}

// expect has all clients send, and holds them to trusting us or not.
func (b *bed) expect(t *testing.T, when string, clients []client, targets []target, trusted bool) {
	t.Helper()
	already, sent := len(b.transactions(t)), 0
	t.Run(when, func(t *testing.T) {
		for _, c := range clients {
			for _, to := range targets {
				if c.byName && to.host != foreignName {
					continue
				}
				sent++
				t.Run(c.name+" "+to.String(), func(t *testing.T) {
					t.Parallel()
					b.expectOne(t, c, to, trusted)
				})
			}
		}
	})
	b.checkTransactions(t, already, sent, trusted)
}

func (b *bed) expectOne(t *testing.T, c client, to target, trusted bool) {
	t.Helper()
	said, err := b.send(t, c, to)
	switch {
	case trusted && err != nil:
		t.Errorf("it fails: %v\n%s", err, said)
	case !trusted && err == nil:
		t.Errorf("it trusts us:\n%s", said)
	case !trusted && !c.failure.MatchString(said):
		t.Errorf("it fails for another reason than the certificate: %v\n%s", err, said)
	}
}

// checkTransactions: who verified us sent a message to us, and nobody else did.
func (b *bed) checkTransactions(t *testing.T, already, sent int, trusted bool) {
	t.Helper()
	events := b.transactions(t)[already:]
	if !trusted {
		sent = 0
	}
	if len(events) != sent {
		t.Errorf("%d messages came, want %d", len(events), sent)
	}
	for _, event := range events {
		// PHP puts an address there, which RFC 6066 does not have.
		named := event.TLSName == foreignName || event.TLSName == "" || event.TLSName == event.OrigDst.Addr().String()
		meant := event.OrigDst.Addr() == foreign4 || event.OrigDst.Addr() == foreign6
		if event.Custody != audit.CustodySpool || event.Listener != "intercepted" || !named || !meant {
			t.Errorf("a message came so: %+v", event)
		}
	}
}
