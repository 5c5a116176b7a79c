package app

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/config"
)

// TestProbeIssuer: root runs the check, and who answers it may be anybody.
func TestProbeIssuer(t *testing.T) {
	tests := map[string]string{
		"":                                    `{"newNonce":"x","newAccount":"x","newOrder":"x"}`,
		"it is not the directory":             `{}`,
		"server did not return error":         `{"renewalInfo":"` + strings.Repeat("x", 200<<10) + `"}`,
		"an answer of the CA is longer than ": `{"x":"` + strings.Repeat("x", 1<<20) + `"}`,
	}
	for want, answer := range tests {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(answer))
		}))
		err := probeIssuer(t.Context(), config.Issuer{Directory: server.URL})
		server.Close()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("%d octets", len(err.Error()))
		}
	}
}
