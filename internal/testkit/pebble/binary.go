package pebble

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
)

// The programs. The go command keeps them in its cache, so that only the first
// test process on a machine builds them.
var (
	server    = sync.OnceValues(func() (string, error) { return tool("pebble") })
	dnsServer = sync.OnceValues(func() (string, error) { return tool("pebble-challtestsrv") })
)

// tool builds one of go.mod's tools and returns its path.
func tool(name string) (string, error) {
	var errs strings.Builder
	cmd := exec.Command("go", "tool", "-n", "github.com/letsencrypt/pebble/v2/cmd/"+name)
	cmd.Stderr = &errs
	path, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", name, err, errs.String())
	}
	return strings.TrimSpace(string(path)), nil
}
