package systemd_test

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/config"
)

// TestSocketUnitsListenAsConfigured holds the socket units to [listen] as it is
// without a file: the proxy takes no socket that the configuration does not have.
func TestSocketUnitsListenAsConfigured(t *testing.T) {
	listen := config.Default().Listen
	want := []string{listen.Socket}
	for _, addresses := range [][]netip.AddrPort{listen.Submission, listen.Submissions, listen.Alternate} {
		for _, address := range addresses {
			want = append(want, address.String())
		}
	}
	for unit, want := range map[string][]string{"smtpwall.socket": want, "smtpwall-admin.socket": {listen.Admin}} {
		got := directive(t, unit, "ListenStream")
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s listens on %q, want %q", unit, got, want)
		}
	}
}

// TestSocketUnitsDiffer: everybody may send mail, few may read and drop it.
func TestSocketUnitsDiffer(t *testing.T) {
	for _, want := range []struct{ unit, key, value string }{
		{"smtpwall.socket", "SocketMode", "0666"},
		{"smtpwall.socket", "FileDescriptorName", "smtpwall"},
		{"smtpwall-admin.socket", "SocketMode", "0660"},
		{"smtpwall-admin.socket", "SocketUser", "root"},
		{"smtpwall-admin.socket", "SocketGroup", "smtpwall"},
		{"smtpwall-admin.socket", "FileDescriptorName", "admin"},
		{"smtpwall-admin.socket", "Service", "smtpwall.service"},
		{"smtpwall-admin.socket", "PartOf", "smtpwall.service"},
		{"smtpwall.service", "Sockets", "smtpwall.socket smtpwall-admin.socket"},
	} {
		if got := directive(t, want.unit, want.key); !slices.Equal(got, []string{want.value}) {
			t.Errorf("%s has %s=%q, want %q", want.unit, want.key, got, want.value)
		}
	}
}

// directive returns the values of a key in a unit as it is in the source tree.
func directive(t *testing.T, unit, key string) []string {
	t.Helper()
	text, err := os.ReadFile("../../systemd/units/" + unit)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			values = append(values, value)
		}
	}
	return values
}
