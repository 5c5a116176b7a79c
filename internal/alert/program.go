package alert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	programTime = 30 * time.Second
	// programAfter is how long, after its end, a program's children may hold
	// its standard error.
	programAfter = time.Second
	maxComplaint = 512 // octets of standard error that reach the log
)

// program starts one.
type program struct {
	argv  []string
	turn  chan struct{} // room for one: programs run one at a time
	limit time.Duration
}

func newProgram(target Target, turn chan struct{}) *program {
	return &program{argv: target.Exec, turn: turn, limit: programTime}
}

// retries is 0: a program that failed may have told somebody, and may not know
// how not to tell twice.
func (p *program) retries() int { return 0 }

// send runs the program with the alert on its standard input. It gets no
// environment but a PATH, and is killed with all that it started in its process
// group when its time is over. One that others can replace by then is not run.
func (p *program) send(ctx context.Context, body []byte) error {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := CheckProgram(p.argv[0]); err != nil {
		return fmt.Errorf("not running the program: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	complaint := &prefix{room: maxComplaint}
	command := exec.CommandContext(ctx, p.argv[0], p.argv[1:]...)
	command.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	command.Dir = "/"
	command.Stdin = bytes.NewReader(body)
	command.Stderr = complaint
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return killGroup(command.Process.Pid) }
	command.WaitDelay = programAfter
	return p.outcome(ctx, command.Run(), complaint)
}

func killGroup(leader int) error {
	err := syscall.Kill(-leader, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// outcome words what became of a run.
func (p *program) outcome(ctx context.Context, err error, complaint *prefix) error {
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it ended well, and left a child that goes on
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("running the program: killed after %v", p.limit)
	case len(complaint.text) > 0:
		return fmt.Errorf("running the program: %w: %q", err, bytes.TrimSpace(complaint.text))
	}
	return fmt.Errorf("running the program: %w", err)
}

// prefix keeps the first octets written to it.
type prefix struct {
	text []byte
	room int
}

func (p *prefix) Write(octets []byte) (int, error) {
	p.text = append(p.text, octets[:min(len(octets), p.room-len(p.text))]...)
	return len(octets), nil
}
