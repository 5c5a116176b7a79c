package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// version is set by the linker.
var version = "development"

// Exit statuses, the same for every command.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2 // usage or configuration
	exitDegraded = 3 // status
)

// command is one subcommand.
type command struct {
	name    string
	args    string // for the usage line
	summary string
	run     func(ctx context.Context, c *console, args []string) error
}

// commands in the order of the help text.
func commands() []command {
	return []command{
		{"run", "[--config FILE] [--mode MODE]", "guard and proxy together, until Ctrl-C", runCommand},
		{"guard", "[--config FILE]", "the guard alone: the firewall half, as root", guardCommand},
		{"serve", "[--config FILE]", "the proxy alone: the mail half, as its own user", serveCommand},
		{"check", "[--offline] [FILE]", "everything that is wrong with a configuration", checkCommand},
		{"firewall", "apply|show|status|remove [--dry-run] [--json]", "the rules, without the services", firewallCommand},
		{"plan", "[--since DURATION] [--json]", "what enforcing would do to what was observed, and a proposal", planCommand},
		{"enforce", "[--confirm-within DURATION] [--yes]", "switch to enforce mode, on trial or for good", enforceCommand},
		{"confirm", "", "make enforce mode stay that is on trial", confirmCommand},
		{"observe", "", "switch to observe mode: the block is down", observeCommand},
		{"status", "[--json]", "what runs, what is in force, what the spool holds", statusCommand},
		{"queue", "list|show|retry|drop [ID...] [FILTER] [--json]", "messages that wait to be delivered", queueCommand},
		{"hold", "list|show|release|drop [ID...] [FILTER] [--json]", "messages that wait for a person", holdCommand},
		{"suspend", "[IDENTITY] [--reason TEXT] [--for DURATION|--until TIME] [--json]", "turn an identity off, or list those that are", suspendCommand},
		{"resume", "IDENTITY", "end a suspension", resumeCommand},
		{"log", "[--json] [--follow] [FILTER]", "audit events", logCommand},
		{"why", "ID [--json]", "what became of a transaction, and why", whyCommand},
		{"test", "--as WHO [--from ADDRESS] [--to ADDRESS] [--json]", "what policy would say, without sending", testCommand},
		{"cert", "status|renew [NAME...] [--json]", "the certificates of the listeners", certCommand},
		{"trust", "install|remove|status [--dry-run] [--json]", "the local CA in the stores that programs trust", trustCommand},
		{"account", "hash", "the hash of a password, for [[account]]", accountCommand},
		{"demo", "", "the whole job in throw-away network namespaces", demoCommand},
		{"version", "", "the version", versionCommand},
	}
}

// console is where a command reads and prints: state to stdout, words for
// people to stderr.
type console struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	c := &console{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	os.Exit(c.main(context.Background(), os.Args[1:]))
}

// main finds the command and gives its exit status.
func (c *console) main(ctx context.Context, args []string) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		c.usage()
		if len(args) == 0 {
			return exitUsage
		}
		return exitDone
	}
	for _, command := range commands() {
		if command.name == args[0] {
			return c.status(command.run(ctx, c, args[1:]))
		}
	}
	return c.status(&userError{
		status: exitUsage, message: fmt.Sprintf("unknown command %q", args[0]),
		hint: "smtpwall help lists the commands",
	})
}

func (c *console) usage() {
	fmt.Fprintln(c.err, "smtpwall: the outbound mail firewall for a Linux host")
	fmt.Fprintln(c.err)
	for _, command := range commands() {
		fmt.Fprintf(c.err, "  smtpwall %-50s %s\n", strings.TrimSpace(command.name+" "+command.args), command.summary)
	}
}

// userError is a failure with what to do about it.
type userError struct {
	status  int
	message string
	hint    string // may be empty
	quiet   bool   // all was said already
}

func (e *userError) Error() string { return e.message }

func failed(err error, hint string) error {
	return &userError{status: exitFailed, message: err.Error(), hint: hint}
}

func usageError(message, hint string) error {
	return &userError{status: exitUsage, message: message, hint: hint}
}

// status prints an error and its hint, and gives the exit status.
func (c *console) status(err error) int {
	var user *userError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case !errors.As(err, &user):
		user = &userError{status: exitFailed, message: err.Error()}
	}
	if !user.quiet {
		fmt.Fprintf(c.err, "smtpwall: error: %s\n", user.message)
		if user.hint != "" {
			fmt.Fprintf(c.err, "hint: %s\n", user.hint)
		}
	}
	return user.status
}

// flags makes a flag set that reports in our manner.
func (c *console) flags(name string) *flag.FlagSet {
	set := flag.NewFlagSet("smtpwall "+name, flag.ContinueOnError)
	set.SetOutput(c.err)
	return set
}

// parse reads flags that may stand before and after the arguments.
func parse(set *flag.FlagSet, args []string) ([]string, error) {
	var rest []string
	for {
		if err := set.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, &userError{status: exitUsage, message: err.Error(), quiet: true}
		}
		if set.NArg() == 0 {
			return rest, nil
		}
		rest = append(rest, set.Arg(0))
		args = set.Args()[1:]
	}
}

func noArguments(rest []string) error {
	if len(rest) > 0 {
		return usageError(fmt.Sprintf("unexpected argument %q", rest[0]), "")
	}
	return nil
}

func versionCommand(_ context.Context, c *console, _ []string) error {
	fmt.Fprintln(c.out, "smtpwall", version)
	return nil
}
