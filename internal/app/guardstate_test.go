package app

import "testing"

func TestGuardState(t *testing.T) {
	for _, tt := range []struct{ state, runtime, want string }{
		{"", "", "/var/lib/smtpwall-guard"},
		{"/var/lib/smtpwall-guard", "", "/var/lib/smtpwall-guard"},
		{"/var/lib/smtpwall:/srv/smtpwall-guard", "/run/other", "/srv/smtpwall-guard"},
		{"/var/lib/smtpwall", "/run/other", "/run/other/smtpwall-guard"}, // the proxy's is not ours
		{"", "/tmp/demo/run", "/tmp/demo/run/smtpwall-guard"},
	} {
		t.Setenv("STATE_DIRECTORY", tt.state)
		t.Setenv("RUNTIME_DIRECTORY", tt.runtime)
		if got := guardState(); got != tt.want {
			t.Errorf("state %q, runtime %q: %s, want %s", tt.state, tt.runtime, got, tt.want)
		}
	}
}
