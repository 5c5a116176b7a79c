package farend

import (
	"crypto/x509"
	"encoding/gob"
	"io"
	"testing"

	"github.com/smtpwall/smtpwall/test/bench/load"
)

func TestServeAnswersTheDriver(t *testing.T) {
	requests, in := io.Pipe()
	out, answers := io.Pipe()
	served := make(chan error, 1)
	go func() { served <- Serve(`{"Username":"u","Password":"p"}`, requests, answers) }()
	encoder, decoder := gob.NewEncoder(in), gob.NewDecoder(out)

	var hello Hello
	if err := decoder.Decode(&hello); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(hello.CA) {
		t.Fatal("no certificate in the hello")
	}
	target := load.Target{Address: hello.Implicit, Security: load.Implicit, RootCAs: roots, ServerName: "relay.test", Username: "u", Password: "p"}
	result := load.Run(t.Context(), target, load.Plan{Connections: 1, Sessions: 2, Messages: 3, Size: 1000, Run: "t"})
	if result.Failed != 0 {
		t.Fatal(result.Err)
	}

	ask := func(keep bool) (harvest Harvest) {
		t.Helper()
		if err := encoder.Encode(request{Keep: keep}); err != nil {
			t.Fatal(err)
		}
		if err := decoder.Decode(&harvest); err != nil {
			t.Fatal(err)
		}
		return harvest
	}
	if got := ask(true); len(got.Received) != 0 || got.Counters.Transactions != 6 || got.Counters.Handshakes != 2 || got.Counters.Auths != 2 {
		t.Errorf("counters %+v with %d messages", got.Counters, len(got.Received))
	}
	got := ask(false)
	if err := load.Compare(result.Sent, got.Received).Err(); err != nil || got.Last.IsZero() {
		t.Errorf("%v, last at %v", err, got.Last)
	}
	if left := ask(false); len(left.Received) != 0 {
		t.Errorf("%d messages after they were taken", len(left.Received))
	}
	for _, ask := range []request{{Keep: true, Down: true}, {Keep: true, Up: true}} {
		var harvest Harvest
		if err := encoder.Encode(ask); err != nil {
			t.Fatal(err)
		}
		if err := decoder.Decode(&harvest); err != nil || harvest.Problem != "" {
			t.Fatalf("%+v: %v %s", ask, err, harvest.Problem)
		}
		again := load.Run(t.Context(), target, load.Plan{Connections: 1, Sessions: 1, Messages: 1, Size: 1000, Run: "u"})
		if served := again.Failed == 0; served != ask.Up {
			t.Errorf("after %+v the relay serves: %v (%v)", ask, served, again.Err)
		}
	}
	in.Close()
	if err := <-served; err != nil {
		t.Errorf("at the end: %v", err)
	}
}

func TestServeRefusesOptionsItDoesNotKnow(t *testing.T) {
	if err := Serve("{", nil, io.Discard); err == nil {
		t.Error("no error")
	}
}
