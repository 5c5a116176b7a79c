package acme_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for what takes a moment. It is long because the
// machine may be busy; no test waits for it to pass.
const patience = 60 * time.Second

// transcript is what a process says.
type transcript struct {
	mu   sync.Mutex
	text []byte
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, p...)
	return len(p), nil
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}

func (s *transcript) count(what string) int { return strings.Count(s.String(), what) }

// process is a program that runs beside the test, and ends with it.
type process struct {
	cmd   *exec.Cmd
	said  *transcript // both streams
	ended chan struct{}
	err   error // once ended is closed
}

// launch starts a program. The test ends it if nobody else did, and it dies with
// the test process, however that dies.
func launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, said: &transcript{}, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.said, p.said
	cmd.WaitDelay = patience
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() { // ends with the process, which the cleanup sees to
		runtime.LockOSThread() // the kernel takes the end of this thread for the parent's
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(p.ended)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.end(syscall.SIGKILL) })
	return p
}

var errStays = errors.New("the process does not end")

// end sends a signal and waits for the end, which is killed if need be.
func (p *process) end(sig syscall.Signal) error {
	_ = p.cmd.Process.Signal(sig) // it may have ended by itself
	select {
	case <-p.ended:
		return p.err
	case <-time.After(patience):
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	return errStays
}

// await waits until the process has said something n times.
func (p *process) await(t testing.TB, what string, n int) {
	t.Helper()
	await(t, fmt.Sprintf("%q to be said %d times", what, n), func() bool {
		select {
		case <-p.ended:
			t.Fatalf("it ended (%v) before it said %q; it said:\n%s", p.err, what, p.said)
		default:
		}
		return p.said.count(what) >= n
	})
}

// await waits until something has happened.
func await(t testing.TB, what string, happened func() bool) {
	t.Helper()
	awaitFor(t, patience, what, happened)
}

func awaitFor(t testing.TB, limit time.Duration, what string, happened func() bool) {
	t.Helper()
	timeout := time.After(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited %s in vain for %s", limit, what)
		}
	}
}

// output runs a program to its end.
func output(cmd *exec.Cmd) (stdout, stderr string, status int) {
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		status = exit.ExitCode() // -1 if a signal ended it
	default:
		return out.String(), err.Error(), -1
	}
	return out.String(), errs.String(), status
}

// must runs a program that has to succeed and returns what it prints.
func must(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	stdout, stderr, status := output(cmd)
	if status != 0 {
		t.Fatalf("%s ended with status %d:\n%s%s", strings.Join(cmd.Args, " "), status, stdout, stderr)
	}
	return stdout
}

// onlyChild is the id of the one child of a process, 0 while there is none.
func onlyChild(t testing.TB, pid int) int {
	t.Helper()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	var children []string // any thread may have started it
	for _, thread := range threads {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, thread.Name()))
		children = append(children, strings.Fields(string(text))...)
	}
	switch len(children) {
	case 0:
		return 0
	case 1:
		id, err := strconv.Atoi(children[0])
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	t.Fatalf("process %d has the children %v, want one", pid, children)
	return 0
}

// quit asks nginx for an end in good order.
const quit = syscall.SIGQUIT
