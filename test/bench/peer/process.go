package peer

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ, 100 on every Linux
// architecture that Go runs on.
const tick = 10 * time.Millisecond

// process is a program that stays in the foreground.
type process struct {
	pid   int
	log   string
	ended chan error
}

// daemon starts a program; its output goes to a file in the peer's directory.
func daemon(env Environment, command *exec.Cmd) (*process, error) {
	log, err := os.Create(filepath.Join(env.Dir, "output"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	command.Dir = env.Dir
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &process{pid: command.Process.Pid, log: log.Name(), ended: make(chan error, 1)}
	go func() { p.ended <- command.Wait() }() // ends with the program, which stop waits for
	return p, nil
}

// stop ends the program by SIGTERM.
func (p *process) stop() error { return p.stopBy(p.pid) }

// stopBy sends SIGTERM to the process that makes the program end.
func (p *process) stopBy(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("sending SIGTERM to process %d: %w", pid, err)
	}
	select {
	case err := <-p.ended:
		return stopError(err, p.log)
	case <-time.After(10 * time.Second):
		syscall.Kill(pid, syscall.SIGKILL)
		<-p.ended
		return fmt.Errorf("process %d did not end within 10 s of SIGTERM", pid)
	}
}

// stopError is nil for an end by the signal we sent or by the program's own
// handling of it.
func stopError(err error, log string) error {
	var exit *exec.ExitError
	if err == nil || errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
		return nil
	}
	if errors.As(err, &exit) && exit.ExitCode() == 128+int(syscall.SIGTERM) {
		return nil // HAProxy's way to say that SIGTERM ended it
	}
	output, _ := os.ReadFile(log)
	return fmt.Errorf("%w: %s", err, lastLines(string(output), 5))
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

// status is what the benchmark reads of a process.
type status struct {
	parent int
	cpu    time.Duration // of itself and of children that have ended
}

// family returns the status of a process and of all its descendants.
func family(pid int) (map[int]status, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	members := make(map[int]status)
	for id := range all {
		for at := id; at != 0; at = all[at].parent {
			if at == pid {
				members[id] = all[id]
				break
			}
		}
	}
	return members, nil
}

func processes() (map[int]status, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	all := make(map[int]status)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		if s, ok := parseStat(string(text)); ok {
			all[pid] = s
		}
	}
	return all, nil
}

// parseStat reads proc_pid_stat(5). The name in parentheses may hold anything.
func parseStat(text string) (status, bool) {
	_, after, found := strings.Cut(text[strings.LastIndexByte(text, ')')+1:], " ")
	fields := strings.Fields(after) // from field 3, the state
	if !found || len(fields) < 15 {
		return status{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return status{}, false
	}
	var ticks int64
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return status{}, false
		}
		ticks += n
	}
	return status{parent: parent, cpu: time.Duration(ticks) * tick}, true
}

// Processes are the ids of all the peer's processes.
func (r *Running) Processes() ([]int, error) {
	members, err := family(r.PID)
	if err != nil {
		return nil, fmt.Errorf("looking for the processes of %s: %w", r.Name, err)
	}
	return slices.Sorted(maps.Keys(members)), nil
}

// CPU is the processor time that the peer used so far, all its processes taken
// together, to 10 ms.
func (r *Running) CPU() (time.Duration, error) {
	if r.PID == 0 {
		return 0, nil
	}
	members, err := family(r.PID)
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of %s: %w", r.Name, err)
	}
	var sum time.Duration
	for _, member := range members {
		sum += member.cpu
	}
	return sum, nil
}

// Memory is a peer's memory in bytes, all its processes taken together.
type Memory struct {
	RSS  int64 // resident; pages shared by several processes count for each
	PSS  int64 // the same, shared pages divided among those who share
	Peak int64 // the highest RSS so far; of several processes, the sum of each one's highest
}

// Memory reads the present memory.
func (r *Running) Memory() (Memory, error) {
	var sum Memory
	if r.PID == 0 {
		return sum, nil
	}
	members, err := family(r.PID)
	if err != nil {
		return sum, fmt.Errorf("reading the memory of %s: %w", r.Name, err)
	}
	for pid := range members {
		sum.RSS += kilobytes(pid, "status", "VmRSS:")
		sum.Peak += kilobytes(pid, "status", "VmHWM:")
		sum.PSS += kilobytes(pid, "smaps_rollup", "Pss:")
	}
	return sum, nil
}

// ResetPeak makes Peak begin anew from the present RSS.
func (r *Running) ResetPeak() error {
	members, err := family(r.PID)
	if err != nil {
		return err
	}
	for pid := range members {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			return fmt.Errorf("resetting the peak memory of %s: %w", r.Name, err)
		}
	}
	return nil
}

// kilobytes reads one line of a file of /proc, in bytes; 0 when the process has
// ended.
func kilobytes(pid int, file, key string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == key {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return n << 10
		}
	}
	return 0
}
