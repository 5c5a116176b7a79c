package load

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

// The relay resumes no session: it is not measured as a server that does.
func TestHandshakes(t *testing.T) {
	relay, err := testkit.StartRelay(testkit.RelayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(relay.CA())
	target := Target{Address: relay.ImplicitAddr(), RootCAs: roots, ServerName: "relay.test"}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		plan := Handshakes{Connections: 2, Time: 50 * time.Millisecond, Version: version}
		if result := plan.Run(t.Context(), target); result.Err != nil || len(result.Latencies) < 2 {
			t.Errorf("%s: %d, %v", tls.VersionName(version), len(result.Latencies), result.Err)
		}
		plan.Resume, plan.Time = true, time.Minute
		if result := plan.Run(t.Context(), target); !errors.Is(result.Err, errNotAsPlanned) || len(result.Latencies) != 2 {
			t.Errorf("%s, to be resumed: %d, %v", tls.VersionName(version), len(result.Latencies), result.Err)
		}
	}
	target.RootCAs = x509.NewCertPool()
	if result := (Handshakes{Connections: 2, Time: time.Second, Version: tls.VersionTLS13}).Run(t.Context(), target); result.Err == nil || result.Failed != 2 {
		t.Errorf("a server that nobody trusts: %d failed, %v", result.Failed, result.Err)
	}
}
