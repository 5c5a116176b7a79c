package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"text/tabwriter"

	"github.com/smtpwall/smtpwall/test/bench/load"
)

// loginScript measures with a client that leaves Nagle's algorithm on, as most
// programs do; Go's own clients switch it off.
//
//go:embed login.py
var loginScript string

// loginLimit is the target for login(), in milliseconds.
const loginLimit = 3.0

// logins are the medians of one run of the script, in milliseconds.
type logins struct {
	Login float64 // EHLO and AUTH after the handshake
	Whole float64 // connect to the reply to AUTH
}

func runLogin(ctx context.Context, b *bench) error {
	python, err := exec.LookPath("python3")
	if err != nil {
		return fmt.Errorf("python3 is not installed (apt-get install python3, or make deps)")
	}
	authority := filepath.Join(b.dir, "all.pem")
	if err := b.writeAuthorities(authority); err != nil {
		return err
	}
	table := tabwriter.NewWriter(b.report.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "peer\tlogin() ms\tconnect to login ms\t")
	var measured []outcome
	for _, name := range b.opts.peers {
		p, err := b.start(ctx, name)
		if err != nil {
			return err
		}
		got, err := b.logIn(ctx, python, authority, b.target(p, rate{}))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(table, "%s\t%.2f\t%.2f\t\n", name, got.Login, got.Whole)
		if name == subject {
			measured = append(measured, outcome{b.scenario.name, "login()", fmt.Sprintf("%.2f ms", got.Login),
				fmt.Sprintf("< %.0f ms", loginLimit), got.Login < loginLimit})
		}
	}
	table.Flush()
	for _, o := range measured {
		b.report.add(o)
	}
	return nil
}

func (b *bench) logIn(ctx context.Context, python, authority string, target load.Target) (logins, error) {
	times := 50
	if b.opts.quick {
		times = 10
	}
	command := exec.CommandContext(ctx, python, "-", target.Address, target.ServerName, authority,
		target.Security.String(), target.Username, strconv.Itoa(times))
	command.Env = append(os.Environ(), "BENCH_PASSWORD="+target.Password)
	script, err := os.CreateTemp(b.dir, "login-*.py")
	if err != nil {
		return logins{}, err
	}
	defer script.Close()
	if _, err := script.WriteString(loginScript); err != nil {
		return logins{}, err
	}
	command.Args[1] = script.Name()
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return logins{}, fmt.Errorf("login.py: %w", err)
	}
	var got logins
	if err := json.Unmarshal(output, &got); err != nil {
		return logins{}, fmt.Errorf("reading what login.py says: %w", err)
	}
	return got, nil
}

// writeAuthorities writes what Python needs to verify relay and proxies.
func (b *bench) writeAuthorities(path string) error {
	text := append([]byte(nil), b.relay.CA...)
	bundle, err := os.ReadFile(b.env.Certificate)
	if err != nil {
		return err
	}
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			text = append(text, pem.EncodeToMemory(block)...)
		}
	}
	return os.WriteFile(path, text, 0o644)
}
