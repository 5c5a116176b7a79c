package trust

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// hand does what changes a store and keeps a list of it, or, on a dry run, makes the list alone: both take the same
// way, so that the one says what the other does.
type hand struct {
	dry bool
	did []string
}

func (h *hand) note(format string, args ...any) { h.did = append(h.did, fmt.Sprintf(format, args...)) }

func (h *hand) write(path string, content []byte, mode fs.FileMode) error {
	h.note("write %s", path)
	if h.dry {
		return nil
	}
	return durable.WriteFile(durable.OS{}, path, content, mode)
}

func (h *hand) remove(path string) error {
	h.note("remove %s", path)
	if h.dry {
		return nil
	}
	return os.Remove(path)
}

func (h *hand) run(ctx context.Context, c command) error {
	h.note("run %s", c)
	if h.dry {
		return nil
	}
	_, err := c.run(ctx)
	return err
}

// How long one command may take. Hooks of an update may do much; a user's database may be locked, or its disk not answer.
const (
	commandTime = 2 * time.Minute
	userTime    = 20 * time.Second
)

// commandDirectories are searched rather than PATH: commands run as root, and perhaps below another root.
func commandDirectories() []string {
	return []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"}
}

// commandPath is where a command lies, or empty.
func commandPath(name string) string {
	for _, directory := range commandDirectories() {
		path := filepath.Join(directory, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// command is a program with nothing of our environment.
type command struct {
	path  string
	args  []string
	input []byte
	as    *account // nil is whoever we are
}

// String is the command as it would be typed.
func (c command) String() string {
	words := strings.Join(append([]string{c.path}, c.args...), " ")
	if c.as != nil && c.as.uid != 0 {
		return words + " (as " + c.as.name + ")"
	}
	return words
}

// run gives what the command printed on both streams; its words are in the error too.
func (c command) run(ctx context.Context) ([]byte, error) {
	limit := commandTime
	if c.as != nil {
		limit = userTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, c.args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + strings.Join(commandDirectories(), ":"), "LC_ALL=C"}
	cmd.Stdin = bytes.NewReader(c.input)                 // never the null device, which an image may lack
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it asks nobody at a terminal
	cmd.WaitDelay = time.Second
	if c.as != nil {
		cmd.Env = append(cmd.Env, "HOME="+c.as.home)
		cmd.SysProcAttr.Credential = c.as.credential()
	}
	output, err := cmd.CombinedOutput()
	if err != nil {
		return output, fmt.Errorf("running %s: %w: %s", c, err, lastWords(output))
	}
	return output, nil
}

// maxWords bounds what an error has of a program's output.
const maxWords = 500

// lastWords is the end of a program's output in one line, without what a terminal would obey: it may be about names that
// a user gave.
func lastWords(output []byte) string {
	lines := strings.FieldsFunc(string(output), func(r rune) bool { return r == '\n' || r == '\r' })
	words := strings.Join(lines, "; ")
	return strings.Map(printable, strings.ToValidUTF8(words[max(0, len(words)-maxWords):], ""))
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}
