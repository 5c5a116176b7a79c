package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Addresses of the machine's own network and of the other host.
const (
	remote4 = "198.51.100.254"
	remote6 = "2001:db8::fe"
)

// install builds smtpwall and installs it as an administrator does.
func install(t *testing.T, m *machine) {
	t.Helper()
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(bin, "bin/smtpwall"), "./cmd/smtpwall")
	build.Dir = repository(t)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building smtpwall: %v\n%s", err, out)
	}
	const source = "/usr/src/smtpwall"
	m.copyTree(t, repository(t), source, "Makefile", "systemd", "packaging", "docs")
	m.copyTree(t, bin, source, "bin")
	out := m.run(t, "make", "--no-print-directory", "-C", source, "install")
	if !strings.Contains(out, "observe mode") {
		t.Errorf("make install does not say which mode it begins in:\n%s", out)
	}
}

func testInstalled(t *testing.T, m *machine) {
	want := map[string]string{
		"/usr/local/bin/smtpwall":                 "755 root:root",
		"/etc/smtpwall":                           "755 root:root",
		"/etc/smtpwall/smtpwall.toml":             "640 root:smtpwall",
		"/etc/smtpwall/credentials":               "700 root:root",
		"/run/smtpwall":                           "755 root:root",
		"/var/log/smtpwall":                       "750 root:smtpwall",
		"/var/log/smtpwall/transactions.jsonl":    "640 smtpwall:smtpwall",
		"/var/log/smtpwall/attempts.jsonl":        "640 root:smtpwall",
		"/usr/local/lib/sysusers.d/smtpwall.conf": "644 root:root",
	}
	for path, mode := range want {
		if got := m.run(t, "stat", "--format=%a %U:%G", path); got != mode {
			t.Errorf("%s is %s, want %s", path, got, mode)
		}
	}
	if shell := m.sh(t, "getent passwd smtpwall | cut -d: -f7"); shell != "/usr/sbin/nologin" {
		t.Errorf("the proxy's user has the shell %q", shell)
	}
	// A second installation keeps the administrator's configuration.
	m.sh(t, "echo '# mine' >>/etc/smtpwall/smtpwall.toml && make -C /usr/src/smtpwall install && grep -q '^# mine' /etc/smtpwall/smtpwall.toml")
}

func testVerify(t *testing.T, m *machine) {
	out := m.sh(t, "systemd-analyze verify --man=no smtpwall.service smtpwall-guard.service smtpwall.socket smtpwall-admin.socket smtpwall-acme@80.socket")
	if out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
}

func testExposure(t *testing.T, m *machine) {
	overall := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)
	for unit, limit := range map[string]float64{"smtpwall.service": 2.0, "smtpwall-guard.service": 3.5} {
		out := m.run(t, "systemd-analyze", "security", "--offline=yes", "--no-pager", unit)
		match := overall.FindStringSubmatch(out)
		if match == nil {
			t.Fatalf("no level in:\n%s", out)
		}
		if level, err := strconv.ParseFloat(match[1], 64); err != nil || level > limit {
			t.Errorf("%s has exposure level %s, want at most %.1f:\n%s", unit, match[1], limit, out)
		}
	}
}
