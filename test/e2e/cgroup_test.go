package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// newCGroup makes a cgroup that looks like that of a unit or of a container.
func newCGroup(t testing.TB, name string) *os.File {
	t.Helper()
	path := filepath.Join(cgroupMount(t), name)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	directory, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = directory.Close()
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	})
	return directory
}

func cgroupMount(t testing.TB) string {
	t.Helper()
	for line := range strings.Lines(readFile(t, "/proc/self/mounts")) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1]
		}
	}
	t.Fatal("no cgroup2 hierarchy is mounted")
	return ""
}

// inCGroup lets a command start in a cgroup. It must end before the cgroup.
func inCGroup(cmd *exec.Cmd, cgroup *os.File) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	return cmd
}
