package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// lastWithoutTee is the last commit in which proxy mode kept no copy of what it
// streams.
const lastWithoutTee = "77b25bace393"

// buildBefore builds the program of that commit below dir, as make build does.
func buildBefore(ctx context.Context, dir string) (string, error) {
	source := filepath.Join(dir, "before")
	program := filepath.Join(source, "bin", "smtpwall")
	if err := os.Mkdir(source, 0o755); err != nil {
		return "", err
	}
	top, err := output(exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel"))
	if err != nil {
		return "", errors.Join(errNoHistory, err)
	}
	archive := filepath.Join(dir, "before.tar")
	if _, err := output(exec.CommandContext(ctx, "git", "-C", top, "archive", "--output", archive, lastWithoutTee)); err != nil {
		return "", errors.Join(errNoHistory, err)
	}
	if _, err := output(exec.CommandContext(ctx, "tar", "-xf", archive, "-C", source)); err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, "./cmd/smtpwall")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	_, err = output(build)
	return program, err
}

var errNoHistory = fmt.Errorf("needs git and the repository's history, to build commit %s, the last one without a tee (git fetch --unshallow)", lastWithoutTee)

// output runs a command and returns what it prints, without the last line's end.
func output(command *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", command, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(bytes.TrimRight(stdout.Bytes(), "\n")), nil
}
