package program

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
	// after is how long, after its end, a program's children may hold its output.
	after     = time.Second
	maxOutput = 512 // octets at the end of a program's output that reach an error
)

// Run runs a program, an absolute path and its arguments, with this input, no
// shell and no environment but a PATH and language, NAME=VALUE. When limit is over, or ctx ends, it is
// killed with all that it started in its process group; a child that it leaves
// behind when it ends in order may go on. The error holds the end of what it
// wrote.
func Run(ctx context.Context, argv []string, input []byte, language string, limit time.Duration) error {
	if err := Check(argv[0]); err != nil {
		return fmt.Errorf("not running the program %s: %w", argv[0], err)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	output := &tail{room: maxOutput}
	command := exec.CommandContext(limited, argv[0], argv[1:]...)
	command.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", language}
	command.Dir = "/"
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return killGroup(command.Process.Pid) }
	command.WaitDelay = after
	err := command.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it ended well, and left a child that goes on
		return nil
	case ctx.Err() != nil:
		err = ctx.Err()
	case limited.Err() != nil:
		err = fmt.Errorf("ended after %v", limit)
	}
	if text := output.lines(); len(text) > 0 {
		return fmt.Errorf("running %s: %w: %q", argv[0], err, text)
	}
	return fmt.Errorf("running %s: %w", argv[0], err)
}

func killGroup(leader int) error {
	err := syscall.Kill(-leader, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// tail keeps the last octets written to it.
type tail struct {
	text []byte
	room int
	cut  bool
}

func (t *tail) Write(octets []byte) (int, error) {
	t.text = append(t.text, octets...)
	if over := len(t.text) - t.room; over > 0 {
		t.text, t.cut = append([]byte(nil), t.text[over:]...), true
	}
	return len(octets), nil
}

// lines gives what is there, from the start of a line if there is one.
func (t *tail) lines() []byte {
	text := bytes.TrimSpace(t.text)
	if _, rest, found := bytes.Cut(text, []byte("\n")); t.cut && found {
		return rest
	}
	return text
}
