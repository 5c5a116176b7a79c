package admin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// credentials are what the kernel says of the process that connected, as it was
// when it did.
type credentials struct {
	uid    uint32
	groups []uint32 // its own and all others
}

// access says who may use the socket.
type access struct {
	uid   uint32 // beside root
	group uint32
	byGID bool // a group may
}

// accessTo is who the socket at address is for: its group may, as the mode of
// the file says already. The mode is not relied on alone: a unit file sets it.
func accessTo(address net.Addr) access {
	a := access{uid: uint32(os.Geteuid())}
	var st unix.Stat_t
	if err := unix.Stat(address.String(), &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		a.group, a.byGID = st.Gid, true
	}
	return a
}

func (a access) permits(c credentials) bool {
	return c.uid == 0 || c.uid == a.uid || a.byGID && slices.Contains(c.groups, a.group)
}

// readCredentials asks the kernel who connected.
func readCredentials(conn *net.UnixConn) (c credentials, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return c, fmt.Errorf("reading the peer's credentials: %w", err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) { c, failed = credentialsOf(int(fd)) })
	if err := errors.Join(err, failed); err != nil {
		return credentials{}, fmt.Errorf("reading the peer's credentials: %w", err)
	}
	return c, nil
}

func credentialsOf(fd int) (credentials, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return credentials{}, err
	}
	groups, err := peerGroups(fd)
	if err != nil {
		return credentials{}, err
	}
	return credentials{uid: cred.Uid, groups: append(groups, cred.Gid)}, nil
}

// peerGroups are the supplementary groups. The kernel says how much room it
// wants if there is too little (unix(7), ERANGE).
func peerGroups(fd int) ([]uint32, error) {
	const size = uint32(unsafe.Sizeof(uint32(0)))
	for groups := make([]uint32, 64); ; {
		length := uint32(len(groups)) * size
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&length)), 0)
		switch {
		case errno == 0:
			return groups[:length/size], nil
		case errno == syscall.ERANGE && length/size > uint32(len(groups)):
			groups = make([]uint32, length/size)
		default:
			return nil, os.NewSyscallError("getsockopt", errno)
		}
	}
}
