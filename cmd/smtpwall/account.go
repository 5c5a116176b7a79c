package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/smtpwall/smtpwall/proxy/auth"
)

// accountCommand makes what [[account]] wants instead of a password.
func accountCommand(_ context.Context, c *console, args []string) error {
	if len(args) != 1 || args[0] != "hash" {
		return usageError("account needs the word hash", "smtpwall account hash, then type the password or pipe it in")
	}
	password, err := c.readPassword()
	if err != nil {
		return failed(err, "")
	}
	argon2id, scram, err := auth.HashPassword(password)
	clear(password)
	if err != nil {
		return failed(err, "")
	}
	fmt.Fprintf(c.out, "password = %q\n", argon2id)
	fmt.Fprintf(c.out, "scram    = %q   # only if clients shall use SCRAM-SHA-256\n", scram)
	return nil
}

// readPassword asks on a terminal, without echo and twice; from a pipe it takes
// the first line. A password is never an argument: the process list shows those.
func (c *console) readPassword() ([]byte, error) {
	if file, ok := c.in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return c.askPassword(int(file.Fd()))
	}
	line, err := bufio.NewReader(io.LimitReader(c.in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading the password: %w", err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return nil, errors.New("the password is empty")
	}
	return []byte(line), nil
}

func (c *console) askPassword(fd int) ([]byte, error) {
	fmt.Fprint(c.err, "Password: ")
	first, err := term.ReadPassword(fd)
	fmt.Fprint(c.err, "\nAgain: ")
	if err != nil {
		return nil, fmt.Errorf("reading the password: %w", err)
	}
	second, err := term.ReadPassword(fd)
	fmt.Fprintln(c.err)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the password: %w", err)
	case string(first) != string(second):
		return nil, errors.New("the two passwords differ")
	case len(first) == 0:
		return nil, errors.New("the password is empty")
	}
	return first, nil
}
