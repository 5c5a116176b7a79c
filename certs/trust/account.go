package trust

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// account is a user of the host.
type account struct {
	name     string
	uid, gid uint32
	home     string
}

// credential are the rights that a command of this user has; nil if they are ours already.
func (a account) credential() *syscall.Credential {
	if int(a.uid) == os.Geteuid() {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// do calls f with the user's rights to files, whatever a link in the home leads to. Only the caller's thread is meant;
// f starts nothing.
func (a account) do(f func() error) error {
	if int(a.uid) == os.Geteuid() {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread() // a thread that is locked for longer stays so
	_ = unix.Setfsgid(int(a.gid))
	_ = unix.Setfsuid(int(a.uid)) // takes root's rights to files away as well
	defer func() {
		_ = unix.Setfsuid(os.Geteuid())
		_ = unix.Setfsgid(os.Getegid())
	}()
	// Neither call reports an error, but each gives the value before it.
	if now, _ := unix.SetfsuidRetUid(-1); now != int(a.uid) {
		return fmt.Errorf("cannot read files as %s: %w", a.name, os.ErrPermission)
	}
	return f()
}

// passwd lists the users in /etc/passwd, which is in the root directory that is meant.
func passwd() ([]account, error) {
	text, err := os.ReadFile("/etc/passwd")
	if os.IsNotExist(err) { // an image may have none
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for users: %w", err)
	}
	var accounts []account
	for line := range bytes.Lines(text) {
		if a, ok := parseAccount(string(line)); ok {
			accounts = append(accounts, a)
		}
	}
	return accounts, nil
}

// parseAccount reads a line of passwd(5).
func parseAccount(line string) (account, bool) {
	fields := strings.Split(strings.TrimRight(line, "\n"), ":")
	if len(fields) < 7 || fields[0] == "" || !filepath.IsAbs(fields[5]) {
		return account{}, false
	}
	uid, err := strconv.ParseUint(fields[2], 10, 32)
	gid, gidErr := strconv.ParseUint(fields[3], 10, 32)
	if err != nil || gidErr != nil {
		return account{}, false
	}
	return account{name: fields[0], uid: uint32(uid), gid: uint32(gid), home: filepath.Clean(fields[5])}, true
}

// lookup finds a user who is not in /etc/passwd, but in a directory service.
func lookup(ctx context.Context, name string) (account, error) {
	missing := fmt.Errorf("there is no user %s", name)
	path := commandPath("getent")
	if path == "" || strings.HasPrefix(name, "-") {
		return account{}, missing
	}
	output, err := command{path: path, args: []string{"passwd", name}}.run(ctx)
	if a, ok := parseAccount(string(output)); err == nil && ok {
		return a, nil
	}
	return account{}, missing
}

// accounts are the users whose databases are meant: root, those named in the options, and with all everybody in
// /etc/passwd. Somebody who is not root can be nobody else.
func (o Options) accounts(ctx context.Context, all bool) ([]account, error) {
	known, err := passwd()
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, name := range o.Users {
		named[name] = true
	}
	var meant []account
	homes := map[string]bool{}
	for _, a := range known {
		if wanted := all || a.uid == 0 || named[a.name]; wanted && !homes[a.home] && mayBe(a) {
			homes[a.home] = true
			meant = append(meant, a)
		}
		delete(named, a.name)
	}
	for name := range named {
		a, err := lookup(ctx, name)
		if err != nil {
			return nil, err
		}
		if !homes[a.home] && mayBe(a) {
			meant = append(meant, a)
		}
	}
	return meant, nil
}

func mayBe(a account) bool { return os.Geteuid() == 0 || int(a.uid) == os.Geteuid() }
