package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/peer"
)

// synced is one file or directory that a process has synced.
type synced struct {
	path       string
	begin, end time.Time
}

func (s synced) isDirectory() bool {
	info, err := os.Stat(s.path)
	return err == nil && info.IsDir()
}

// tracer is an strace that writes down what a peer syncs.
type tracer struct {
	command *exec.Cmd
	path    string
}

// trace attaches strace(1) to all processes of a peer, and to those that they
// will start.
func trace(ctx context.Context, p *peer.Running, dir string) (*tracer, error) {
	pids, err := p.Processes()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, p.Name+".strace")
	args := []string{"-f", "-y", "-ttt", "-T", "-o", path, "-e", "trace=fsync,fdatasync,sync_file_range,syncfs,sync"}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	t := &tracer{command: exec.Command("strace", args...), path: path}
	if err := t.command.Start(); err != nil {
		return nil, fmt.Errorf("strace: %w", err)
	}
	for _, pid := range pids {
		if err := awaitTracer(ctx, pid); err != nil {
			return nil, errors.Join(err, t.detach())
		}
	}
	return t, nil
}

// awaitTracer waits until all threads of a process are traced.
func awaitTracer(ctx context.Context, pid int) error {
	const patience = 10 * time.Second
	for begin := time.Now(); !isTraced(pid); {
		if time.Since(begin) > patience {
			return fmt.Errorf("strace did not attach to process %d", pid)
		}
		if err := rest(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func isTraced(pid int) bool {
	statuses, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, status := range statuses {
		if text, err := os.ReadFile(status); err == nil && strings.Contains(string(text), "\nTracerPid:\t0\n") {
			return false
		}
	}
	return true // or it has ended
}

// stop detaches strace and reads what it saw.
func (t *tracer) stop() ([]synced, error) {
	if err := t.detach(); err != nil {
		return nil, err
	}
	file, err := os.Open(t.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return parseTrace(file)
}

func (t *tracer) detach() error {
	if err := t.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := t.command.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
		return nil // by us
	}
	return err
}

// parseTrace reads strace's lines, which begin with the thread's id and the
// time. What one thread's line says may be in two, with others' between them:
//
//	71 1795.25 fsync(7</spool/incoming/ID>) = 0 <0.0002>
//	71 1795.25 fsync(7</spool/incoming/ID> <unfinished ...>
//	71 1795.26 <... fsync resumed>) = 0 <0.0002>
//
// Failed calls do not count.
func parseTrace(in io.Reader) ([]synced, error) {
	var all []synced
	unfinished := make(map[string]synced)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		thread, rest, _ := strings.Cut(lines.Text(), " ")
		at, call, found := strings.Cut(strings.TrimLeft(rest, " "), " ")
		if !found || strings.HasPrefix(call, "+++") || strings.HasPrefix(call, "---") {
			continue // a thread's end, or a signal
		}
		this := unfinished[thread]
		if !strings.HasPrefix(call, "<... ") {
			seconds, err := strconv.ParseFloat(at, 64)
			if err != nil {
				return nil, fmt.Errorf("reading strace's line %q: %w", lines.Text(), err)
			}
			_, path, _ := strings.Cut(call, "<")
			path, _, _ = strings.Cut(path, ">")
			this = synced{path: path, begin: time.UnixMicro(int64(seconds * 1e6))}
		}
		if strings.HasSuffix(call, "<unfinished ...>") {
			unfinished[thread] = this
			continue
		}
		_, result, _ := strings.Cut(call, ") ")
		result, took, _ := strings.Cut(strings.TrimLeft(result, " "), " <")
		seconds, err := strconv.ParseFloat(strings.TrimSuffix(took, ">"), 64)
		if err == nil && result == "= 0" {
			this.end = this.begin.Add(time.Duration(seconds * float64(time.Second)))
			all = append(all, this)
		}
	}
	return all, lines.Err()
}
