package peer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Processes finds the process that holds a socket by looking through /proc,
// which takes root (or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH). What it finds is
// observed, not proven: sockets are handed on, and processes go.
type Processes struct {
	cgroups *CGroups
	// budget bounds one search; there may be very many processes.
	budget time.Duration
}

// NewProcesses searches for at most budget at a time, 50 ms if it is zero.
// Without cgroups it searches by uid only; they may be nil.
func NewProcesses(cgroups *CGroups, budget time.Duration) *Processes {
	if budget <= 0 {
		budget = 50 * time.Millisecond
	}
	return &Processes{cgroups: cgroups, budget: budget}
}

// Find is the process that has the socket with this inode open: first among
// those in the cgroup (a path as in Peer.CGroup, "" if unknown), then among the
// user's, then among all. The exe may be empty. It is not ok when nobody has the
// socket any more, when we may not see who, or when the time is up.
func (p *Processes) Find(inode uint64, cgroup string, uid uint32) (pid int, exe string, ok bool) {
	if inode == 0 {
		return 0, "", false
	}
	s := search{
		link:     "socket:[" + strconv.FormatUint(inode, 10) + "]",
		deadline: time.Now().Add(p.budget),
		seen:     map[int]bool{},
	}
	if pid, exe, ok = s.among(p.inCGroup(cgroup), nil); ok {
		return pid, exe, true
	}
	all := allProcesses()
	if pid, exe, ok = s.among(all, func(proc process) bool { return proc.hasUID(uid) }); ok {
		return pid, exe, true
	}
	return s.among(all, nil)
}

// inCGroup is the processes of one cgroup.
func (p *Processes) inCGroup(cgroup string) []int {
	if p.cgroups == nil || cgroup == "" {
		return nil
	}
	rel, ok := strings.CutPrefix(cgroup, strings.TrimSuffix(p.cgroups.mount.root, "/"))
	if !ok {
		return nil
	}
	b, err := readBeneath(p.cgroups.mount.point, strings.TrimLeft(rel+"/cgroup.procs", "/"))
	if err != nil {
		return nil
	}
	return parsePIDs(strings.Fields(string(b)))
}

// maxProcs bounds what is read of a cgroup.procs.
const maxProcs = 1 << 20

// readBeneath reads a file of the hierarchy. The path may come from a process
// that we do not trust, so it leads nowhere else: not by "..", not by a link, not
// into another mount, and a pipe does not hold us.
func readBeneath(root, path string) ([]byte, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(dir) }()
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), path)
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, maxProcs))
}

// allProcesses is every pid in /proc, the youngest first: who has just
// connected is likely to be young.
func allProcesses() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	pids := parsePIDs(names)
	slices.Sort(pids)
	slices.Reverse(pids)
	return pids
}

// parsePIDs keeps what is a number.
func parsePIDs(names []string) []int {
	pids := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// search is one look for the holder of a socket.
type search struct {
	link     string // what a descriptor of the socket links to
	deadline time.Time
	seen     map[int]bool
}

// among looks at those of pids that it has not seen and that want takes.
func (s *search) among(pids []int, want func(process) bool) (int, string, bool) {
	for _, pid := range pids {
		if time.Now().After(s.deadline) {
			break
		}
		if s.seen[pid] {
			continue
		}
		if exe, ok := s.holds(pid, want); ok {
			return pid, exe, true
		}
	}
	return 0, "", false
}

// holds reports whether the process has the socket.
func (s *search) holds(pid int, want func(process) bool) (exe string, ok bool) {
	proc, err := openProcess(pid)
	if err != nil {
		return "", false
	}
	defer proc.close()
	if want != nil && !want(proc) {
		return "", false
	}
	s.seen[pid] = true
	if !proc.hasLink(s.link) {
		return "", false
	}
	return proc.exe(), true
}

// process is an open directory /proc/PID: what is read through it is of that
// process and never of another that has got its pid.
type process struct {
	fd int
}

func openProcess(pid int) (process, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return process{}, fmt.Errorf("opening process %d: %w", pid, err)
	}
	return process{fd: fd}, nil
}

func (p process) close() { unix.Close(p.fd) }

// exe is the path of the program, empty if we may not see it.
func (p process) exe() string {
	link, err := p.readlink("exe")
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(link, " (deleted)")
}

// cgroup is the process's place in the cgroup2 hierarchy.
func (p process) cgroup() (string, error) {
	b, err := p.readFile("cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(strings.TrimSuffix(path, "\n"), " (deleted)"), nil
		}
	}
	return "", errors.New("the process is in no cgroup2 hierarchy")
}

// uid is the effective uid. The owner of the directory would be root for any
// process that has changed its user.
func (p process) uid() (uint32, error) {
	b, err := p.readFile("status")
	if err != nil {
		return 0, err
	}
	_, rest, ok := bytes.Cut(b, []byte("\nUid:"))
	f := strings.Fields(string(rest[:max(bytes.IndexByte(rest, '\n'), 0)]))
	if !ok || len(f) < 2 {
		return 0, errors.New("reading a process's uid: no such line")
	}
	uid, err := strconv.ParseUint(f[1], 10, 32)
	return uint32(uid), err
}

func (p process) hasUID(uid uint32) bool {
	have, err := p.uid()
	return err == nil && have == uid
}

// hasLink reports whether a descriptor of the process is link.
func (p process) hasLink(link string) bool {
	fd, err := unix.Openat(p.fd, "fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	dir := os.NewFile(uintptr(fd), "fd")
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			if target, err := readlinkAt(fd, name); err == nil && target == link {
				return true
			}
		}
		if err != nil {
			return false
		}
	}
}

func (p process) readlink(name string) (string, error) { return readlinkAt(p.fd, name) }

func readlinkAt(fd int, name string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, name, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func (p process) readFile(name string) ([]byte, error) {
	fd, err := unix.Openat(p.fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reading a process's %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return io.ReadAll(f)
}
