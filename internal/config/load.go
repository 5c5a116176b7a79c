package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// maxFile bounds the configuration file, in bytes.
const maxFile = 1 << 20

// Options say what loading may look at beyond the text.
type Options struct {
	// SkipSecrets leaves secrets unread and unchecked, for the guard, which
	// needs none.
	SkipSecrets bool
	// OutsideService is for a person who checks the file: systemd hands its
	// credentials to the service alone, so that they cannot be read is a
	// warning and no error.
	OutsideService bool
	// Credential returns the path of a credential of that name; nil where there
	// are none.
	Credential func(name string) (path string, err error)
	// Mode counts instead of the file's, if set; the checks are those of this mode.
	Mode Mode
	// MissingOK makes a file that does not exist count as an empty one.
	MissingOK bool
	// Machine is the host that the file is for; what names something that it
	// does not have gets a warning. With nil, Parse does not ask, and Load looks at
	// this host.
	Machine *Machine
	// Now is the time that is looked at in warnings. With zero, Parse does not
	// ask, and Load takes the clock's.
	Now time.Time
}

// Load reads and checks the file at path. The Config is nil if and only if
// there is an error among the problems.
func Load(path string, options Options) (*Config, []Problem) {
	if options.Machine == nil {
		options.Machine = ThisMachine()
	}
	if options.Now.IsZero() {
		options.Now = time.Now()
	}
	text, err := readConfig(path)
	if errors.Is(err, fs.ErrNotExist) && options.MissingOK {
		return Parse(path, nil, options)
	}
	if err != nil {
		return nil, []Problem{{path, 0, "", err.Error(), loadHint(err), Error}}
	}
	return Parse(path, text, options)
}

// readConfig reads the file, within maxFile.
func readConfig(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", bare(err))
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", bare(err))
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("is larger than %s", formatSize(maxFile))
	}
	return text, nil
}

// bare strips the operation and the path, which the problem names already.
func bare(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// loadHint says what to do about a file that cannot be read.
func loadHint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "name another file with --config FILE"
	case errors.Is(err, fs.ErrPermission):
		return "run as root, or let the group smtpwall read it"
	default:
		return ""
	}
}

// Parse checks text as if it were the file called name. The Config is nil if and
// only if there is an error among the problems, which are in the order of the
// file. Secrets are read unless options say otherwise.
func Parse(name string, text []byte, options Options) (*Config, []Problem) {
	d, _ := decode(name, text, options)
	if HasErrors(d.problems) {
		return nil, d.problems
	}
	return d.config, d.problems
}

// decode reads the keys of text and, unless a syntax error hides some of them,
// checks them against each other. The config has the values without errors.
func decode(name string, text []byte, options Options) (d *decoder, complete bool) {
	source := newSource(name, bytes.TrimPrefix(text, []byte("\ufeff")))
	root, complete := parseTree(source)
	d = &decoder{source: source, options: options, config: Default(), tables: map[string]ref{"": {"", root}}}
	d.fill("", root, schema(d.config))
	d.config.Certificates.Issuers = append(d.config.Certificates.Issuers, d.otherIssuers...)
	d.config.ModeStated = d.saysMode()
	if options.Mode != "" {
		d.config.Mode, d.config.ModeStated = options.Mode, true
	}
	if complete {
		d.check()
	}
	sortProblems(d.problems)
	return d, complete
}
