// Command generate writes the manual page and the installed example from the
// documentation beside the configuration's fields. `go generate
// ./internal/config` runs it in that directory.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/smtpwall/smtpwall/internal/config"
)

func main() {
	for path, write := range map[string]func(io.Writer) error{
		"../../docs/man/smtpwall.toml.5": config.WriteManual,
		"../../packaging/smtpwall.toml":  config.WriteExample,
	} {
		var text bytes.Buffer
		err := write(&text)
		if err == nil {
			err = os.WriteFile(path, text.Bytes(), 0o644)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "generate: writing %s: %v\n", path, err)
			os.Exit(1)
		}
	}
}
