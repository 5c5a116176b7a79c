package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/smtpwall/smtpwall/certs"
	"github.com/smtpwall/smtpwall/certs/trust"
	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
)

// trustCommand puts the local CA into the stores of this host or of an image,
// takes it out, or says where it is.
func trustCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("trust")
	path := configFlag(set)
	asJSON := set.Bool("json", false, "print what was found and done as JSON")
	var options trust.Options
	set.BoolVar(&options.DryRun, "dry-run", false, "print what would be done, change nothing")
	set.StringVar(&options.Root, "root", "", "the root `DIRECTORY` of another system, a container's image say")
	set.BoolVar(&options.AllUsers, "all-users", false, "the NSS databases of all users in /etc/passwd too")
	set.Func("user", "the NSS databases of user `NAME` too; may be repeated", func(name string) error {
		options.Users = append(options.Users, name)
		return nil
	})
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	act := map[string]trustAction{"install": trust.Install, "remove": trust.Remove, "status": trust.Inspect}
	if len(rest) != 1 || act[rest[0]] == nil {
		return usageError("trust needs install, remove or status", "smtpwall trust install makes programs believe the local CA's certificates")
	}
	cfg, err := c.loadConfig(*path, config.Options{MissingOK: true, SkipSecrets: true})
	if err != nil {
		return err
	}
	options.Certificate = certs.RootFile(app.CertificateDirectory(cfg))
	if options.Root == "" {
		addInvoker(&options)
	}
	report, err := act[rest[0]](ctx, options)
	printer := trustPrinter{console: c, verb: rest[0], options: options, report: report}
	if *asJSON {
		err = errors.Join(err, printer.json())
	} else {
		printer.text()
	}
	return printer.outcome(err)
}

type trustAction func(context.Context, trust.Options) (trust.Report, error)

// addInvoker adds what belongs to whoever runs the command: the databases of the
// user that sudo or doas made root, and the JDK of the environment.
func addInvoker(options *trust.Options) {
	for _, name := range []string{"SUDO_USER", "DOAS_USER"} {
		if user := os.Getenv(name); user != "" && user != "root" {
			options.Users = append(options.Users, user)
			break
		}
	}
	if home := os.Getenv("JAVA_HOME"); home != "" {
		options.JavaHomes = append(options.JavaHomes, home)
	}
}

// trustPrinter says what came of it.
type trustPrinter struct {
	*console
	verb    string
	options trust.Options
	report  trust.Report
}

// outcome is the exit status, and the hint to an error.
func (p trustPrinter) outcome(err error) error {
	if err != nil { // one line for each store
		return failed(errors.New(strings.ReplaceAll(err.Error(), "\n", "\nsmtpwall: error: ")), p.hint())
	}
	if p.verb != "status" {
		return nil
	}
	good := len(p.report.Places) > 0 && p.report.Places[0].Current
	for _, place := range p.report.Places {
		good = good && !place.Older
	}
	if !good {
		return &userError{status: exitDegraded, quiet: true, message: "the local CA is not trusted as it should be"}
	}
	return nil
}

func (p trustPrinter) hint() string {
	switch {
	case os.Geteuid() != 0:
		return "run as root, on the host whose programs shall trust the local CA"
	case len(p.report.Places) > 0:
		return "what could be done was done; run the command again when the rest is mended"
	}
	return ""
}

func (p trustPrinter) text() {
	if p.verb == "status" && p.report.Name != "" {
		fmt.Fprintf(p.out, "the local CA of this host is %s\n", p.report.Name)
	}
	for _, place := range p.report.Places {
		p.place(place)
	}
	if p.verb != "status" && len(p.report.Places) > 0 && !p.report.Changed() {
		fmt.Fprintln(p.err, "nothing had to be changed")
	}
	p.advice()
}

// place prints a line for a store, or on a dry run one for each step.
func (p trustPrinter) place(place trust.Place) {
	where := place.Store + ", " + place.Path
	if place.User != "" {
		where += " of " + place.User
	}
	switch {
	case place.Err != nil: // in the error
	case place.Note != "":
		fmt.Fprintf(p.err, "%s: %s\n", where, place.Note)
	case p.verb == "status":
		fmt.Fprintf(p.out, "%s: %s\n", where, trustState(place))
	case p.options.DryRun:
		for _, step := range place.Did {
			fmt.Fprintf(p.out, "%s: would %s\n", where, step)
		}
	case p.verb == "remove" && place.Changed:
		fmt.Fprintf(p.out, "%s: no local CA is trusted any more\n", where)
	case place.Changed:
		fmt.Fprintf(p.out, "%s: %s is trusted now\n", where, p.report.Name)
	case p.verb == "install":
		fmt.Fprintf(p.out, "%s: %s was trusted already\n", where, strings.Join(place.Trusted, ", "))
	}
}

func trustState(place trust.Place) string {
	held := strings.Join(place.Trusted, ", ")
	switch {
	case place.Current && place.Older:
		return "trusts it, and older or other local CAs: " + held
	case place.Current:
		return "trusts it"
	case place.Older:
		return "trusts older or other local CAs: " + held
	}
	return "trusts no local CA"
}

func (p trustPrinter) advice() {
	if len(p.report.Advice) == 0 {
		return
	}
	fmt.Fprintln(p.err, "\nFor programs that read none of these stores:")
	for _, advice := range p.report.Advice {
		fmt.Fprintf(p.err, "%s: %s\n", advice.For, advice.Text)
		for _, line := range advice.Lines {
			fmt.Fprintf(p.err, "    %s\n", line)
		}
	}
}

// trustReport is the JSON of a report.
type trustReport struct {
	LocalCA string        `json:"local_ca,omitempty"`
	DryRun  bool          `json:"dry_run"`
	Changed bool          `json:"changed"`
	Stores  []trustStore  `json:"stores"`
	Advice  []trustAdvice `json:"advice"`
}

type trustStore struct {
	Store   string   `json:"store"`
	Path    string   `json:"path"`
	User    string   `json:"user,omitempty"`
	Trusted []string `json:"trusted"`
	Current bool     `json:"current"`
	Older   bool     `json:"older"`
	Changed bool     `json:"changed"`
	Steps   []string `json:"steps"`
	Note    string   `json:"note,omitempty"`
	Error   string   `json:"error,omitempty"`
}

type trustAdvice struct {
	For   string   `json:"for"`
	Text  string   `json:"text"`
	Lines []string `json:"lines"`
}

func (p trustPrinter) json() error {
	report := trustReport{
		LocalCA: p.report.Name, DryRun: p.options.DryRun, Changed: p.report.Changed(),
		Stores: []trustStore{}, Advice: []trustAdvice{},
	}
	list := func(s []string) []string { return append([]string{}, s...) } // never null
	for _, place := range p.report.Places {
		store := trustStore{
			Store: place.Store, Path: place.Path, User: place.User, Trusted: list(place.Trusted), Current: place.Current,
			Older: place.Older, Changed: place.Changed, Steps: list(place.Did), Note: place.Note,
		}
		if place.Err != nil {
			store.Error = place.Err.Error()
		}
		report.Stores = append(report.Stores, store)
	}
	for _, advice := range p.report.Advice {
		report.Advice = append(report.Advice, trustAdvice{advice.For, advice.Text, list(advice.Lines)})
	}
	return json.NewEncoder(p.out).Encode(report)
}
