package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstFD is where passed descriptors begin: SD_LISTEN_FDS_START.
const firstFD = 3

// maxFDs is far above any unit of ours; a larger count is a broken environment.
const maxFDs = 1024

// Variables by which descriptors arrive. A manager forks and then writes
// LISTEN_PID in the child; a Go program cannot, as it starts a child in one
// step and learns the child's id afterwards. Pass therefore names the parent
// instead, and Passed compares that with its own parent: either way a process
// that merely inherited the variables takes nothing.
const (
	envFDs       = "LISTEN_FDS"
	envNames     = "LISTEN_FDNAMES"
	envPID       = "LISTEN_PID"
	envParentPID = "SMTPWALL_LISTEN_PPID"
)

// Socket is an open descriptor with the name that the unit file
// (FileDescriptorName=), StoreFD or Pass gave it.
type Socket struct {
	Name string
	File *os.File
}

// Listener makes a listener of a listening socket and closes File, on failure
// too. A Unix socket's path stays when the listener closes: it belongs to
// whoever bound it.
//
// A socket that systemd opened is plain TCP, so the original destination of a
// redirected connection can be read. Go's own listeners are MPTCP by default
// and must be made without.
func (s Socket) Listener() (net.Listener, error) {
	defer s.File.Close()
	l, err := net.FileListener(s.File)
	if err != nil {
		return nil, fmt.Errorf("listening on passed socket %q: %w", s.Name, err)
	}
	return l, nil
}

// FromListener makes the Socket to Pass on of a TCP or Unix listener. The
// listener stays open and the caller's.
func FromListener(name string, l net.Listener) (Socket, error) {
	filer, ok := l.(interface{ File() (*os.File, error) })
	if !ok {
		return Socket{}, fmt.Errorf("passing listener %q: %T has no descriptor", name, l)
	}
	f, err := filer.File()
	if err != nil {
		return Socket{}, fmt.Errorf("passing listener %q: %w", name, err)
	}
	return Socket{Name: name, File: f}, nil
}

// Passed takes over the descriptors that the manager, or a parent through Pass,
// opened for this process: listening sockets and stored descriptors alike, in
// the order given. Several may share a name. They are set to close on exec and
// the variables are removed, so that no child takes them for its own; a second
// call returns none.
//
// It returns none, and no error, when nothing was passed or it was meant for
// another process. An error means that the environment is addressed to us and
// cannot be right.
func Passed() ([]Socket, error) {
	count, names := os.Getenv(envFDs), os.Getenv(envNames)
	ours := addressedToUs()
	for _, v := range []string{envFDs, envNames, envPID, envParentPID} {
		if err := os.Unsetenv(v); err != nil {
			return nil, fmt.Errorf("taking passed sockets: %w", err)
		}
	}
	if !ours || count == "" {
		return nil, nil
	}
	sockets, err := parseNames(count, names)
	if err != nil {
		return nil, fmt.Errorf("taking passed sockets: %w", err)
	}
	return open(sockets)
}

func addressedToUs() bool {
	if pid := os.Getenv(envPID); pid != "" {
		return pid == strconv.Itoa(os.Getpid())
	}
	return os.Getenv(envParentPID) == strconv.Itoa(os.Getppid())
}

// parseNames returns one Socket for each descriptor, with no file yet. A list
// of names is optional, but must be complete.
func parseNames(count, names string) ([]Socket, error) {
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxFDs {
		return nil, fmt.Errorf("%s=%q is not a number from 0 to %d", envFDs, count, maxFDs)
	}
	sockets := make([]Socket, n)
	if names == "" {
		for i := range sockets {
			sockets[i].Name = "unknown" // as sd_listen_fds_with_names(3)
		}
		return sockets, nil
	}
	list := strings.Split(names, ":")
	if len(list) != n {
		return nil, fmt.Errorf("%s has %d names for %d descriptors", envNames, len(list), n)
	}
	for i, name := range list {
		sockets[i].Name = name
	}
	return sockets, nil
}

// open fills in the files. All are checked first, so that an error leaves no
// half-taken set behind.
func open(sockets []Socket) ([]Socket, error) {
	for i := range sockets {
		if _, err := unix.FcntlInt(uintptr(firstFD+i), unix.F_GETFD, 0); err != nil {
			return nil, fmt.Errorf("taking passed socket %q: descriptor %d: %w", sockets[i].Name, firstFD+i, err)
		}
	}
	for i := range sockets {
		unix.CloseOnExec(firstFD + i)
		sockets[i].File = os.NewFile(uintptr(firstFD+i), sockets[i].Name)
	}
	return sockets, nil
}

// Pass arranges for the child that cmd will start to get sockets, by the same
// protocol that the manager uses; the child calls Passed. The files stay open
// in the parent, which closes them once the child runs. The child does not
// inherit our manager's watchdog and notification socket, which are for this
// process alone.
//
// cmd must have no ExtraFiles, as the protocol counts from descriptor 3, and
// must start the child directly, not through a shell that stays its parent.
func Pass(cmd *exec.Cmd, sockets []Socket) error {
	if len(cmd.ExtraFiles) != 0 {
		return errors.New("passing sockets: the command has files already")
	}
	names := make([]string, len(sockets))
	files := make([]*os.File, len(sockets))
	for i, s := range sockets {
		if err := checkName(s.Name); err != nil {
			return fmt.Errorf("passing sockets: %w", err)
		}
		names[i], files[i] = s.Name, s.File
	}
	cmd.ExtraFiles = files
	cmd.Env = append(withoutManager(cmd.Environ()),
		envFDs+"="+strconv.Itoa(len(sockets)),
		envNames+"="+strings.Join(names, ":"),
		envParentPID+"="+strconv.Itoa(os.Getpid()))
	return nil
}

// withoutManager drops the variables that are addressed to one process.
func withoutManager(env []string) []string {
	var kept []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case envFDs, envNames, envPID, envParentPID, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID":
		default:
			kept = append(kept, v)
		}
	}
	return kept
}
