package load

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

func received(messages []testkit.RelayMessage) []Received {
	out := make([]Received, len(messages))
	for i, m := range messages {
		out[i] = Received{ReversePath: m.ReversePath, Digest: m.Digest}
	}
	return out
}

func TestRunDeliversEachMessageOnce(t *testing.T) {
	relay, err := testkit.StartRelay(testkit.RelayOptions{
		Username: "u", Password: "p", RequireTLS: true, RequireAuth: true, Digest: NewDigest, DigestFrom: FirstField,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(relay.CA())
	for _, pipelining := range []bool{false, true} {
		for _, size := range []int{500, 100 << 10} {
			for security, address := range map[Security]string{STARTTLS: relay.Addr(), Implicit: relay.ImplicitAddr()} {
				t.Run(fmt.Sprint(security, size, pipelining), func(t *testing.T) {
					target := Target{Address: address, Security: security, RootCAs: roots, ServerName: "relay.test", Username: "u", Password: "p"}
					result := Run(t.Context(), target, Plan{Connections: 3, Sessions: 5, Messages: 2, Size: size, Pipelining: pipelining, Run: "t"})
					if result.Failed != 0 || len(result.Sent) != 10 || len(result.Latencies) != 10 {
						t.Fatalf("%d failed (%v), %d sent, %d latencies", result.Failed, result.Err, len(result.Sent), len(result.Latencies))
					}
					if err := Compare(result.Sent, received(relay.TakeMessages())).Err(); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

func TestRunCountsFailures(t *testing.T) {
	relay, err := testkit.StartRelay(testkit.RelayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	relay.On(testkit.StepEnd, testkit.Fault{Text: "451 4.3.0 no", Times: 1})
	result := Run(t.Context(), Target{Address: relay.Addr()}, Plan{Connections: 1, Sessions: 2, Messages: 1, Size: 500, Run: "t"})
	if result.Failed != 1 || result.Err == nil || len(result.Sent) != 1 {
		t.Errorf("%d failed (%v), %d sent", result.Failed, result.Err, len(result.Sent))
	}
}

func TestRunEndsWithItsTime(t *testing.T) {
	relay, err := testkit.StartRelay(testkit.RelayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	result := Run(t.Context(), Target{Address: relay.Addr()}, Plan{Connections: 2, Messages: 10, Time: time.Millisecond, Size: 500, Run: "t"})
	if result.Failed != 0 || result.Elapsed > 5*time.Second {
		t.Errorf("%d failed (%v) in %v", result.Failed, result.Err, result.Elapsed)
	}
}

func TestCompare(t *testing.T) {
	sent := []Sent{{ReversePath: "a", Digest: "1"}, {ReversePath: "b", Digest: "2"}, {ReversePath: "c", Digest: "3"}}
	for name, test := range map[string]struct {
		received []Received
		want     Verdict
	}{
		"all":        {[]Received{{"c", "3"}, {"a", "1"}, {"b", "2"}}, Verdict{}},
		"lost":       {[]Received{{"a", "1"}, {"b", "2"}}, Verdict{Lost: 1}},
		"swapped":    {[]Received{{"a", "2"}, {"b", "1"}, {"c", "3"}}, Verdict{Altered: 2}},
		"duplicated": {[]Received{{"a", "1"}, {"b", "2"}, {"c", "3"}, {"c", "3"}}, Verdict{Duplicated: 1}},
		"foreign":    {[]Received{{"a", "1"}, {"b", "2"}, {"c", "3"}, {"d", "4"}}, Verdict{Foreign: 1}},
	} {
		got := Compare(sent, test.received)
		if got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
		if (got.Err() == nil) != (test.want == Verdict{}) {
			t.Errorf("%s: error %v", name, got.Err())
		}
	}
}

func TestBodyIsPlainLines(t *testing.T) {
	for _, size := range []int{1, 78, 4096, 100_000} {
		text := string(body(size))
		lines := strings.SplitAfter(text, "\r\n")
		if last := lines[len(lines)-1]; last != "" {
			t.Errorf("size %d: the text ends with %q", size, last)
		}
		for _, line := range lines[:len(lines)-1] {
			if len(line) != 78 || line[0] == '.' || strings.ContainsAny(line[:76], "\r\n") {
				t.Fatalf("size %d: line %q", size, line)
			}
		}
	}
}
