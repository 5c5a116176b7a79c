package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is one network namespace of a Lab.
type Namespace struct {
	name string
	plan addrPair
	fd   netns.NsHandle
	link *netlink.Handle
}

// newNamespace makes a namespace and brings its loopback up.
func newNamespace(name string, plan addrPair) (*Namespace, error) {
	fd, err := unshare()
	if err != nil {
		return nil, fmt.Errorf("making network namespace %s: %w", name, err)
	}
	handle, err := netlink.NewHandleAt(fd, unix.NETLINK_ROUTE)
	if err != nil {
		fd.Close()
		return nil, fmt.Errorf("opening route socket in %s: %w", name, err)
	}
	n := &Namespace{name: name, plan: plan, fd: fd, link: handle}
	// Duplicate address detection would keep link-local addresses, and with them
	// neighbour discovery, back for a second or two.
	if err := errors.Join(n.Sysctl("ipv6/conf/default/accept_dad", "0"), n.up("lo")); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// unshare returns a new namespace and leaves the caller where it was.
func unshare() (netns.NsHandle, error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return netns.None(), err
	}
	defer home.Close()
	fd, err := netns.New()
	if err != nil {
		runtime.UnlockOSThread()
		return netns.None(), err
	}
	// A thread that cannot go home stays locked, and dies with its goroutine.
	if err := netns.Set(home); err != nil {
		fd.Close()
		return netns.None(), err
	}
	runtime.UnlockOSThread()
	return fd, nil
}

// String returns the name of the namespace's part in the lab.
func (n *Namespace) String() string { return n.name }

// Addr4 returns the namespace's first IPv4 address.
func (n *Namespace) Addr4() netip.Addr { return n.plan.v4.Addr() }

// Addr6 returns the namespace's first IPv6 address.
func (n *Namespace) Addr6() netip.Addr { return n.plan.v6.Addr() }

// Addr returns the first IPv4 or the first IPv6 address.
func (n *Namespace) Addr(v6 bool) netip.Addr {
	if v6 {
		return n.Addr6()
	}
	return n.Addr4()
}

// Path names the namespace for other programs (nsenter --net=PATH) for as long
// as the lab is open.
func (n *Namespace) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(n.fd))
}

// Do runs f on a thread that is inside the namespace. Sockets that f opens
// stay inside; goroutines that f starts do not. It returns what f returns.
func (n *Namespace) Do(f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("reading the current network namespace: %w", err)
	}
	// Deferred, so that a test may end itself inside of f.
	defer func() {
		// A thread that cannot go home stays locked, and dies with its goroutine.
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		home.Close()
	}()
	if err := netns.Set(n.fd); err != nil {
		return fmt.Errorf("entering network namespace %s: %w", n.name, err)
	}
	return f()
}

// DoAs is Do with the file-system uid and gid of one thread set to uid and
// gid: the owner that the kernel notes on the sockets that f opens.
func (n *Namespace) DoAs(uid, gid uint32, f func() error) error {
	return n.Do(func() error {
		oldGID, err := unix.SetfsgidRetGid(int(gid))
		if err != nil {
			return fmt.Errorf("becoming gid %d: %w", gid, err)
		}
		defer unix.SetfsgidRetGid(oldGID)
		oldUID, err := unix.SetfsuidRetUid(int(uid))
		if err != nil {
			return fmt.Errorf("becoming uid %d: %w", uid, err)
		}
		defer unix.SetfsuidRetUid(oldUID)
		return f()
	})
}

// Sysctl sets a kernel parameter under net inside the namespace; key has
// slashes, as in "ipv4/ip_forward".
func (n *Namespace) Sysctl(key, value string) error {
	return n.Do(func() error {
		path := filepath.Join("/proc/sys/net", key)
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("setting %s in %s: %w", key, n.name, err)
		}
		return nil
	})
}

func (n *Namespace) forward() error {
	if err := n.Sysctl("ipv4/ip_forward", "1"); err != nil {
		return err
	}
	return n.Sysctl("ipv6/conf/all/forwarding", "1")
}

func (n *Namespace) close() error {
	if n == nil {
		return nil
	}
	n.link.Close()
	return n.fd.Close()
}
