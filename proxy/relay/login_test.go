package relay

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

func TestEveryMechanism(t *testing.T) {
	for _, mechanism := range []string{"SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5"} {
		t.Run(mechanism, func(t *testing.T) {
			r := startRelay(t, testkit.RelayOptions{Mechanisms: []string{mechanism}, RequireAuth: true, RequireTLS: true})
			reply, _, err := send(t.Context(), newPool(t, r, nil), "Subject: x\r\n\r\nbody\r\n", "a@example.net")
			if err != nil || reply.Code != 250 {
				t.Fatalf("%v, %v", reply, err)
			}
			if m := r.Messages(); len(m) != 1 || m[0].AuthUser != "relay-user" || !m[0].TLS {
				t.Fatalf("recorded %+v", m)
			}
		})
	}
}

func TestWrongPassword(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{})
	pool := newPool(t, r, func(o *Options) { o.Password = func() []byte { return []byte("wrong " + secret) } })
	err := pool.Probe(t.Context())
	var failure *Error
	if !errors.As(err, &failure) || failure.Step != StepAuth || strings.Contains(err.Error(), secret) {
		t.Fatalf("%v", err)
	}
}

// A relay that repeats our login in its refusal does not get it into our log.
func TestLoginThatIsRepeated(t *testing.T) {
	plain := base64.StdEncoding.EncodeToString([]byte("\x00relay-user\x00" + secret))
	for _, reply := range []string{
		"535 5.7.8 wrong: " + secret, "535 5.7.8 " + strings.Repeat("x", 190) + plain, plain, "535-5.7.8 a\n535 5.7.8 " + plain,
	} {
		r := startRelay(t, testkit.RelayOptions{Mechanisms: []string{"PLAIN"}})
		r.On(testkit.StepAuth, testkit.Fault{Text: reply})
		err := newPool(t, r, nil).Probe(t.Context())
		if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), plain[:10]) {
			t.Errorf("%v", err)
		}
	}
}
