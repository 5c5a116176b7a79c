// Command run is "go test" for a machine that has everything: it prints what
// "go test" prints and fails as it fails, and takes a skipped test for a
// failure. Its arguments are those of "go test"; $GO names the go command.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
)

func main() {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "the tests make network namespaces and need root: sudo make test")
		os.Exit(1)
	}
	failures, err := run(os.Args[1:])
	if err == nil && len(failures) == 0 {
		return
	}
	for _, f := range failures {
		fmt.Println(f)
	}
	if err != nil {
		fmt.Println("FAIL:", err)
	}
	os.Exit(1)
}

// run returns the skipped tests, and go test's own failure.
func run(args []string) (failures []string, err error) {
	goCommand := os.Getenv("GO")
	if goCommand == "" {
		goCommand = "go"
	}
	cmd := exec.Command(goCommand, append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	// Ctrl-C reaches go test as well; what it says on the way out is worth seeing.
	signal.Ignore(os.Interrupt)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	skipped, filterErr := filter(out, os.Stdout)
	if err := cmd.Wait(); err != nil {
		return skipped, err
	}
	return skipped, filterErr
}
