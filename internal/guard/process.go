package guard

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// searchTime bounds one search through /proc.
const searchTime = 30 * time.Millisecond

// seen is a process that may have made an attempt. PID is 0 where several, all
// of the same program, may have.
type seen struct {
	pid int
	exe string
}

// procs looks through /proc for who can have made an attempt. The socket of an
// attempt that was reset is closed by the time that we hear of it, and no more
// to be found by its address; but its process is among those of the user in the
// cgroup, and often the only one.
type procs struct {
	root    string // /proc
	cgroups string // where the cgroup v2 hierarchy is mounted as a whole; "" if it is not
}

func newProcs() procs {
	p := procs{root: "/proc"}
	mounts, err := os.ReadFile(filepath.Join(p.root, "self/mountinfo"))
	if err != nil {
		return p
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line) // id, parent, device, root, mount point, …
		if _, kind, _ := strings.Cut(line, " - "); len(f) > 4 && f[3] == "/" && strings.HasPrefix(kind, "cgroup2 ") {
			p.cgroups = f[4]
		}
	}
	return p
}

// find returns the process of a user in a cgroup (a path as in
// /proc/PID/cgroup, "" if unknown) that has a socket open. It is observed, not
// proven: not ok unless there is one such process, or all of them run the same
// program.
func (p procs) find(uid uint32, cgroup string) (seen, bool) {
	var with, without []seen
	deadline := time.Now().Add(searchTime)
	for _, pid := range p.candidates(cgroup) {
		if time.Now().After(deadline) {
			return seen{}, false
		}
		if !p.isOf(pid, uid, cgroup) {
			continue
		}
		s := seen{pid: pid, exe: p.exe(pid)}
		if p.hasSocket(pid) {
			with = append(with, s)
		} else {
			without = append(without, s)
		}
	}
	if len(with) > 0 {
		return only(with)
	}
	return only(without)
}

// only returns what all of the processes have in common.
func only(all []seen) (seen, bool) {
	if len(all) == 0 {
		return seen{}, false
	}
	common := all[0]
	for _, s := range all[1:] {
		if s.exe != common.exe {
			return seen{}, false
		}
		common.pid = 0
	}
	return common, common.pid != 0 || common.exe != ""
}

// candidates are the processes of a cgroup, or all if those are not known: of a
// process below the fifth level the rules have told the ancestor only.
func (p procs) candidates(cgroup string) []int {
	if p.cgroups == "" || cgroup == "" || cgroup == "/" || strings.Count(cgroup, "/") >= deepestLevel {
		return p.pids()
	}
	list, err := os.ReadFile(filepath.Join(p.cgroups, cgroup, "cgroup.procs"))
	if err != nil {
		return p.pids()
	}
	return numbers(strings.Fields(string(list)))
}

func (p procs) pids() []int {
	dir, err := os.Open(p.root)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	return numbers(names)
}

func numbers(names []string) []int {
	var all []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

func (p procs) path(pid int, name string) string {
	return filepath.Join(p.root, strconv.Itoa(pid), name)
}

func (p procs) isOf(pid int, uid uint32, cgroup string) bool {
	if cgroup != "" && !isBelow(p.cgroup(pid), cgroup) {
		return false
	}
	status, err := os.ReadFile(p.path(pid, "status"))
	if err != nil || !bytes.Contains(status, []byte("\nVmSize:")) { // a kernel thread has no memory
		return false
	}
	_, line, _ := bytes.Cut(status, []byte("\nUid:"))
	line, _, _ = bytes.Cut(line, []byte("\n"))
	ids := strings.Fields(string(line)) // real, effective, saved, file system
	return len(ids) == 4 && ids[3] == strconv.FormatUint(uint64(uid), 10)
}

// deepestLevel is how far down the rules tell cgroups apart. What lies deeper
// counts as its ancestor there.
const deepestLevel = 5

// isBelow reports whether a process in the cgroup path may be one that the
// rules put down to top.
func isBelow(path, top string) bool {
	if path == top {
		return true
	}
	return strings.Count(top, "/") == deepestLevel && strings.HasPrefix(path, top+"/")
}

// cgroup returns the process's path in the cgroup v2 hierarchy.
func (p procs) cgroup(pid int) string {
	b, err := os.ReadFile(p.path(pid, "cgroup"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n")
		}
	}
	return ""
}

func (p procs) exe(pid int) string {
	exe, err := os.Readlink(p.path(pid, "exe"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(exe, " (deleted)")
}

func (p procs) hasSocket(pid int) bool {
	dir, err := os.Open(p.path(pid, "fd"))
	if err != nil {
		return false
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(128)
		for _, n := range names {
			if link, err := os.Readlink(p.path(pid, "fd/"+n)); err == nil && strings.HasPrefix(link, "socket:") {
				return true
			}
		}
		if err != nil {
			return false
		}
	}
}
