package pebble

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// patience bounds every wait. It is long because the machine may be busy.
const patience = 30 * time.Second

// program is a child that runs until it is ended, by its process id.
type program struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once ended is closed
}

// launch starts a child whose words go to said. It dies with the test process,
// however that dies.
func launch(cmd *exec.Cmd, said *transcript, env ...string) (*program, error) {
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = patience
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &program{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() { // ends with the child, which end sees to
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
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	return p, nil
}

// end kills the child and waits until it is gone.
func (p *program) end() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.ended
}

func (p *program) signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

var errEnded = errors.New("it ended")

// await asks until an answer is right, the child has ended or patience is over.
func (p *program) await(ask func() error) error {
	deadline := time.After(patience)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("waiting for %s: %w: %w", p.cmd.Path, errEnded, p.err)
		case <-deadline:
			return fmt.Errorf("waiting for %s: %w", p.cmd.Path, err)
		case <-tick.C:
		}
	}
}

// transcript is what the children said.
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
