package systemd_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// suite is Debian 12: the oldest systemd that the units are for.
const suite = "bookworm"

// packages is what the container has besides the essential ones.
const packages = "systemd,systemd-sysv,dbus,nftables,iproute2,procps,curl,ca-certificates,logrotate,make"

// prepare makes a container's file system of a fresh Debian: no machine id, so
// that each boot is a first one until then, no console, no timers.
const prepare = `set -e
rm -f "$1/etc/machine-id" "$1"/etc/systemd/system/timers.target.wants/*
: >"$1/etc/machine-id"
: >"$1/etc/resolv.conf"
echo machine >"$1/etc/hostname"
ln -sf /dev/null "$1/etc/systemd/system/console-getty.service"
ln -sf /dev/null "$1/etc/systemd/system/systemd-modules-load.service"`

// rootFS returns the folder with a pristine root file system, and builds it
// when it is not there. Nothing may write to it.
func rootFS(t *testing.T) string {
	t.Helper()
	cache := cacheFolder(t)
	key := sha256.Sum256([]byte(suite + packages + prepare))
	dir := filepath.Join(cache, fmt.Sprintf("%s-%x", suite, key[:6]))
	unlock := lock(t, dir+".lock")
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	t.Logf("building %s, once", dir)
	buildRootFS(t, dir)
	return dir
}

// buildRootFS builds beside dir and renames, so that an interrupted build is
// never taken for a whole one.
func buildRootFS(t *testing.T, dir string) {
	t.Helper()
	building, archive := dir+".building", dir+".tar"
	for _, leftover := range []string{building, archive} {
		if err := os.RemoveAll(leftover); err != nil {
			t.Fatal(err)
		}
	}
	defer os.Remove(archive)
	// An archive, as mmdebstrap would otherwise want to make device nodes.
	command(t, "mmdebstrap", "--quiet", "--variant=apt", "--include="+packages,
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*", suite, archive, mirror(t))
	if err := os.Mkdir(building, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "tar", "-C", building, "-xf", archive, "--exclude=./dev/*")
	command(t, "sh", "-c", prepare, "sh", building)
	if err := os.Rename(building, dir); err != nil {
		t.Fatal(err)
	}
}

func cacheFolder(t *testing.T) string {
	t.Helper()
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "smtpwall-test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sources finds Debian's own archive, which has a component "main", in either
// notation of sources.list(5).
var sources = []*regexp.Regexp{
	regexp.MustCompile(`(?m)^deb\s+(?:\[[^]]*\]\s+)?(https?://\S*debian\S*)\s+\S+\s.*\bmain\b`),
	regexp.MustCompile(`(?m)^URIs:\s*(https?://\S*debian\S*).*\n(?:\S.*\n)*?Components:.*\bmain\b`),
}

// mirror returns the machine's own Debian mirror.
func mirror(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("/etc/apt/sources.list.d/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append([]string{"/etc/apt/sources.list"}, files...) {
		content, err := os.ReadFile(file)
		if err != nil || !slices.Contains([]string{".list", ".sources"}, filepath.Ext(file)) {
			continue // sources.list need not exist, and apt reads no other name
		}
		for _, notation := range sources {
			if m := notation.FindSubmatch(content); m != nil {
				return string(m[1])
			}
		}
	}
	return "http://deb.debian.org/debian"
}

// lock keeps two test runs from building at the same time.
func lock(t *testing.T, path string) (unlock func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatalf("locking %s: %v", path, err)
	}
	return func() { f.Close() }
}

// command runs a program of this machine and ends the test when it fails.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestSources(t *testing.T) {
	for text, want := range map[string]string{
		"deb http://deb.debian.org/debian bookworm main contrib\n":                                                             "http://deb.debian.org/debian",
		"# a comment\ndeb [signed-by=/x.gpg arch=amd64] https://mirror.example/debian/ bookworm main\n":                        "https://mirror.example/debian/",
		"deb https://download.example.com/linux/debian bookworm stable\n":                                                      "",
		"deb-src http://deb.debian.org/debian bookworm main\n":                                                                 "",
		"Types: deb\nURIs: http://deb.debian.org/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /x\n": "http://deb.debian.org/debian",
		"Types: deb\nURIs: http://x.example/debian\nSuites: a\n\nTypes: deb\nURIs: http://y.example/z\nComponents: main\n":     "",
	} {
		got := ""
		for _, notation := range sources {
			if m := notation.FindStringSubmatch(text); m != nil {
				got = m[1]
			}
		}
		if got != want {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
}
