package main

import (
	"flag"
	"fmt"
	"os"
	"slices"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
)

// configFlag adds --config.
func configFlag(set *flag.FlagSet) *string {
	return set.String("config", config.DefaultPath, "the configuration `FILE`")
}

// onlyConfig parses the flags of a command that has --config and nothing else.
func (c *console) onlyConfig(name string, args []string) (path string, err error) {
	set := c.flags(name)
	config := configFlag(set)
	rest, err := parse(set, args)
	if err != nil {
		return "", err
	}
	return *config, noArguments(rest)
}

// loader reads a configuration at the start and at each reload. A default file
// that does not exist stands for the defaults until there is one; a file that
// is gone later is an error, since taking a block down is an explicit act.
func (c *console) loader(path string, options config.Options) app.LoadFunc {
	seen := false
	return func() (*config.Config, error) {
		if _, err := os.Stat(path); err == nil {
			seen = true
		}
		options.MissingOK = !seen
		return c.loadConfig(path, options)
	}
}

// loadConfig reads a configuration and prints all that is wrong with it. A
// default file that does not exist stands for the defaults where that is allowed.
// Commands that only look something up leave warnings to check and to the service.
func (c *console) loadConfig(path string, options config.Options) (*config.Config, error) {
	cfg, problems := config.Load(path, options)
	if options.SkipSecrets && cfg != nil {
		problems = slices.DeleteFunc(problems, func(p config.Problem) bool { return p.Severity != config.Error })
	}
	c.printProblems(problems)
	if cfg == nil {
		return nil, &userError{
			status: exitUsage, quiet: true,
			message: fmt.Sprintf("%s cannot be used", path),
		}
	}
	return cfg, nil
}

// printProblems prints each with its remedy.
func (c *console) printProblems(problems []config.Problem) {
	for _, problem := range problems {
		fmt.Fprintf(c.err, "smtpwall: %s: %s\n", problem.Severity, problem)
		if problem.Hint != "" {
			fmt.Fprintf(c.err, "hint: %s\n", problem.Hint)
		}
	}
}
