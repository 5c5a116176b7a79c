package systemd_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/config"
	guardpkg "github.com/smtpwall/smtpwall/internal/guard"
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

// TestSocketUnitsDiffer: everybody may send mail, few may read and drop it, and
// who looks for a certificate's challenge wakes nobody.
func TestSocketUnitsDiffer(t *testing.T) {
	for _, want := range []struct{ unit, key, value string }{
		{"smtpwall.socket", "SocketMode", "0666"},
		{"smtpwall.socket", "FileDescriptorName", "smtpwall"},
		{"smtpwall-admin.socket", "SocketMode", "0660"},
		{"smtpwall-admin.socket", "SocketUser", "root"},
		{"smtpwall-admin.socket", "SocketGroup", "smtpwall"},
		{"smtpwall-admin.socket", "FileDescriptorName", "admin"},
		{"smtpwall-admin.socket", "Service", "smtpwall.service"},
		{"smtpwall-acme@.socket", "FileDescriptorName", "acme"},
		{"smtpwall-acme@.socket", "Service", "smtpwall.service"},
		{"smtpwall-acme@.socket", "PartOf", "smtpwall.service"},
		{"smtpwall-acme@.socket", "WantedBy", "smtpwall.service"},
		{"smtpwall-admin.socket", "PartOf", "smtpwall.service"},
		{"smtpwall.service", "Sockets", "smtpwall.socket smtpwall-admin.socket"},
	} {
		if got := directive(t, want.unit, want.key); !slices.Equal(got, []string{want.value}) {
			t.Errorf("%s has %s=%q, want %q", want.unit, want.key, got, want.value)
		}
	}
}

// TestTheGuardsStateIsRootsAlone: what is in there takes the block down.
func TestTheGuardsStateIsRootsAlone(t *testing.T) {
	for key, want := range map[string]string{"StateDirectory": filepath.Base(guardpkg.StateDir), "StateDirectoryMode": "0700", "User": "root"} {
		if got := directive(t, "smtpwall-guard.service", key); !slices.Equal(got, []string{want}) {
			t.Errorf("%s=%q, want %q", key, got, want)
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
