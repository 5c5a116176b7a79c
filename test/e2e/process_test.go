package e2e_test

import (
	"errors"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait. It is long because the machine may be busy; no
// test waits for it to pass.
const patience = 30 * time.Second

// transcript is what a process says, and can be waited for.
type transcript struct {
	mu   sync.Mutex
	text []byte
	more chan struct{} // closed and made anew with each write
}

func newTranscript() *transcript { return &transcript{more: make(chan struct{})} }

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, p...)
	close(s.more)
	s.more = make(chan struct{})
	return len(p), nil
}

func (s *transcript) String() string {
	text, _ := s.now()
	return text
}

func (s *transcript) now() (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text), s.more
}

// count is how often something was said so far.
func (s *transcript) count(what string) int { return strings.Count(s.String(), what) }

// await waits until something was said n times.
func (s *transcript) await(t testing.TB, what string, n int) {
	t.Helper()
	timeout := time.After(patience)
	for {
		text, more := s.now()
		if strings.Count(text, what) >= n {
			return
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("%q was not said %d times within %s, but this:\n%s", what, n, patience, text)
		}
	}
}

// awaitCount waits until something that is counted elsewhere has come to n.
func awaitCount(t testing.TB, what string, n int64, count func() int64) {
	t.Helper()
	timeout := time.After(patience)
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		got := count()
		if got >= n {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("after %s there are %d %s, want %d", patience, got, what, n)
		}
	}
}

// process is a program that runs beside the test, and ends with it.
type process struct {
	cmd   *exec.Cmd
	said  *transcript // both streams
	ended chan struct{}
	err   error // once ended is closed
}

// launch starts a program. The test ends it if nobody else did.
func launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, said: newTranscript(), ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.said, p.said
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which the cleanup sees to
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() { _ = p.end(syscall.SIGKILL) })
	return p
}

// signal sends a signal to the process, by its id.
func (p *process) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("sending %s: %v", sig, err)
	}
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

// awaitEnd waits for the end of a process that ends by itself.
func (p *process) awaitEnd(t testing.TB) error {
	t.Helper()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(patience):
		t.Fatalf("%v after %s; it said:\n%s", errStays, patience, p.said)
		return nil
	}
}

// exitStatus is that of a program that ended, -1 if a signal ended it.
func exitStatus(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}
