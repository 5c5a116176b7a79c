package peer

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// overflowUID is what the kernel shows for a user that our user namespace does
// not map; in the initial namespace it is the user nobody.
const overflowUID = 65534

// unixPeer is what can be said of the process that connected a Unix socket.
type unixPeer struct {
	uid      uint32
	pid      int32
	cgroupID uint64 // by the pidfd, Linux 6.13; 0 if unknown
	cgroup   string // by /proc
	exe      string
}

// unixCredentials reads the peer of the connected Unix socket fd.
func unixCredentials(fd int) (unixPeer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return unixPeer{}, fmt.Errorf("reading the peer's credentials: %w", err)
	}
	p := unixPeer{uid: cred.Uid, pid: cred.Pid}
	if cred.Pid <= 0 {
		return p, nil // a process outside of our pid namespace
	}
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	switch {
	case err == nil:
		defer unix.Close(pidfd)
		p.cgroupID = pidfdCGroup(pidfd)
	case errors.Is(err, unix.ENOPROTOOPT):
		pidfd = -1 // before Linux 6.5
	default:
		return unixPeer{}, fmt.Errorf("reading the peer's process: %w", err)
	}
	if err := p.readProcess(pidfd); err != nil {
		p.cgroup, p.exe = "", ""
	}
	if pidfd >= 0 && alive(pidfd) != nil {
		return unixPeer{}, errPeerGone
	}
	return p, nil
}

// errPeerGone makes a peer unknown whose process ended before its banner. Nobody
// honest does that: it leaves the socket to others, and its unit unread.
var errPeerGone = errors.New("the process that connected has ended")

// pidfdCGroup is the id of the cgroup that the process is in, 0 if it has gone
// or the kernel cannot tell. It needs no /proc, which may be hidden from us.
func pidfdCGroup(pidfd int) uint64 {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_CGROUPID}
	if err := unix.IoctlPidfdInfo(pidfd, &info); err != nil || info.Mask&unix.PIDFD_INFO_CGROUPID == 0 {
		return 0
	}
	return info.Cgroupid
}

// readProcess reads what /proc has on the peer, and proves that the pid was not
// used again: by the pidfd where the kernel has one, else by the uid, which
// leaves the processes of one user to be taken for each other.
func (p *unixPeer) readProcess(pidfd int) error {
	proc, err := openProcess(int(p.pid))
	if err != nil {
		return err
	}
	defer proc.close()
	if p.cgroup, err = proc.cgroup(); err != nil {
		return err
	}
	p.exe = proc.exe()
	if pidfd >= 0 {
		return alive(pidfd)
	}
	uid, err := proc.uid()
	if err != nil {
		return err
	}
	if uid != p.uid {
		return errors.New("the pid belongs to somebody else by now")
	}
	return nil
}

// alive is nil while the pid of a pidfd is taken. Signal 0 reaches even a
// zombie; EPERM says as well that the process is there.
func alive(pidfd int) error {
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return err
	}
	return nil
}

// uidsAreMapped reports whether our user namespace shows only a part of the
// host's users, so that overflowUID may stand for any other.
func uidsAreMapped() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return true
	}
	f := strings.Fields(string(b))
	return len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != strconv.FormatUint(NoUID, 10)
}
