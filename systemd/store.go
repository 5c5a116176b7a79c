package systemd

import (
	"fmt"
	"os"
	"strings"
)

// StoreFD asks the manager to keep a copy of f under name and to pass it to the
// next process of this unit, after a crash as after a restart; Passed returns
// it there. The unit needs FileDescriptorStoreMax=. Storing the same file again
// changes nothing. Without a manager it does nothing and returns nil: ask
// Managed where that matters.
func StoreFD(name string, f *os.File) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("storing a descriptor: %w", err)
	}
	// FDPOLL=0: the manager drops a descriptor that polls as failed, and a
	// netlink socket does so after nothing worse than a full receive buffer.
	return send(f, "FDSTORE=1", "FDNAME="+name, "FDPOLL=0")
}

// RemoveFD makes the manager close what it keeps under name.
func RemoveFD(name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("removing a stored descriptor: %w", err)
	}
	return send(nil, "FDSTOREREMOVE=1", "FDNAME="+name)
}

// checkName holds names to the manager's own rule (sd_listen_fds(3)): 1 to 255
// printable ASCII characters, and no colon, which separates names in a list.
func checkName(name string) error {
	odd := func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, odd) {
		return fmt.Errorf("%q is not a descriptor name", name)
	}
	return nil
}
