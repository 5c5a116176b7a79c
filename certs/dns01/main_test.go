package dns01

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// inside marks the process that has a network, and an /etc/resolv.conf, of its
// own: name servers have port 53, and there is no other way to be one.
const inside = "SMTPWALL_TEST_DNS01_INSIDE"

// hostResolver is who /etc/resolv.conf names; nobody is there unless a test is.
const hostResolver = "127.0.0.53"

func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		os.Exit(goInside())
	}
	if err := furnish(); err != nil {
		fmt.Fprintln(os.Stderr, "making a network of our own:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func goInside() int {
	command := exec.Command("/proc/self/exe", os.Args[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(), inside+"=1")
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := command.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		fmt.Fprintln(os.Stderr, "the tests need root, for a network of their own:", err)
		return 1
	}
	return command.ProcessState.ExitCode()
}

func furnish() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return err
	}
	for _, address := range []string{"127.0.0.2/32", hostResolver + "/32"} { // named listens on addresses of interfaces alone
		parsed, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(loopback, parsed); err != nil {
			return err
		}
	}
	directory, err := os.MkdirTemp("", "dns01")
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	resolvers := filepath.Join(directory, "resolv.conf")
	if err := os.WriteFile(resolvers, []byte("nameserver "+hostResolver+"\n"), 0o644); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	// Elsewhere the file may be a link to one that is not there.
	etc, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		return err
	}
	return syscall.Mount(resolvers, etc, "", syscall.MS_BIND, "")
}
