package guard

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// caller is who asks on the guard socket.
type caller struct {
	uid  uint32
	name string // for the record: "root", and who became root if that is known
}

// callerOf asks the kernel who connected.
func callerOf(conn *net.UnixConn) (caller, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return caller{}, err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, failed); err != nil {
		return caller{}, fmt.Errorf("reading the peer's credentials: %w", err)
	}
	if cred.Uid != 0 {
		return caller{uid: cred.Uid}, nil // orders nothing that would be recorded
	}
	return caller{name: nameOf(cred.Uid, loginUID("/proc", cred.Pid))}, nil
}

// nameOf names a user, and in brackets the one that had logged in as another.
func nameOf(uid uint32, login string) string {
	name := userName(strconv.FormatUint(uint64(uid), 10))
	if as := userName(login); login != "" && as != name {
		return name + " (" + as + ")"
	}
	return name
}

func userName(uid string) string {
	if found, err := user.LookupId(uid); err == nil {
		return found.Username
	}
	return "uid " + uid
}

// loginUID is who logged in, to become what a process is by sudo or su. The
// kernel keeps it over these, and only root may set it. It is empty for what
// nobody who logged in has started.
func loginUID(proc string, pid int32) string {
	const unset = "4294967295"
	text, err := os.ReadFile(fmt.Sprintf("%s/%d/loginuid", proc, pid))
	login := strings.TrimSpace(string(text))
	if err != nil || login == unset {
		return ""
	}
	if _, err := strconv.ParseUint(login, 10, 32); err != nil {
		return ""
	}
	return login
}
