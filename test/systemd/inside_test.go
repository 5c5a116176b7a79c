package systemd_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// command prepares a program that runs inside as root, in a control group of its
// own there, as if somebody had logged in.
func (m *machine) command(args ...string) *exec.Cmd {
	enter := []string{"--target", strconv.Itoa(m.init), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8",
		"sh", "-c", `cd / && mkdir -p /sys/fs/cgroup/login && echo $$ >/sys/fs/cgroup/login/cgroup.procs && exec "$@"`, "sh"}
	return exec.CommandContext(m.t.Context(), "nsenter", append(enter, args...)...)
}

// try runs a program inside and returns what it printed, errors included.
func (m *machine) try(args ...string) (string, error) {
	cmd := m.command(args...)
	if m.t.Context().Err() != nil { // while cleaning up
		cmd = exec.Command(cmd.Args[0], cmd.Args[1:]...)
	}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// run is try for what must not fail.
func (m *machine) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.try(args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// sh runs shell text inside.
func (m *machine) sh(t *testing.T, text string) string {
	t.Helper()
	return m.run(t, "sh", "-c", text)
}

// show returns a property of a unit.
func (m *machine) show(t *testing.T, unit, property string) string {
	t.Helper()
	return m.run(t, "systemctl", "show", "--value", "--property", property, unit)
}

// beginning is the mark before everything.
const beginning = "@0"

// journal returns what units have said since mark.
func (m *machine) journal(t *testing.T, mark string, units ...string) string {
	t.Helper()
	args := []string{"journalctl", "--no-pager", "--output=cat", "--since=" + mark}
	for _, u := range units {
		args = append(args, "--unit="+u)
	}
	return m.run(t, args...)
}

// mark is a point in the journal: now. (Not a cursor: with a filter by unit,
// systemd 252 was seen to show nothing of what came after one.)
func (m *machine) mark(t *testing.T) string {
	t.Helper()
	return m.sh(t, "journalctl --sync && date +@%s.%6N")
}

// explain prints the journal since mark if the test has failed.
func (m *machine) explain(t *testing.T, mark string) {
	t.Helper()
	if t.Failed() {
		said, _ := m.try("journalctl", "--no-pager", "--output=short-precise", "--since="+mark)
		t.Logf("journal:\n%s", said)
	}
}

// write puts a file onto the machine's disk.
func (m *machine) write(t *testing.T, path string, mode os.FileMode, content []byte) {
	t.Helper()
	cmd := m.command("sh", "-c", `mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"`, "sh", path, fmt.Sprintf("%o", mode))
	cmd.Stdin = bytes.NewReader(content)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("writing %s: %v\n%s", path, err, out)
	}
}

// copyTree puts files and folders below source onto the machine's disk.
func (m *machine) copyTree(t *testing.T, source, target string, names ...string) {
	t.Helper()
	pack := exec.CommandContext(t.Context(), "tar", append([]string{"-C", source, "-cf", "-"}, names...)...)
	unpack := m.command("sh", "-c", `mkdir -p "$1" && tar -C "$1" --no-same-owner -xf -`, "sh", target)
	archive, err := pack.Output()
	if err != nil {
		t.Fatalf("packing %s: %v", source, err)
	}
	unpack.Stdin = bytes.NewReader(archive)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("unpacking to %s: %v\n%s", target, err, out)
	}
}

// repository is the root of the source tree.
func repository(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
