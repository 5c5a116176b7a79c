package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/smtpwall/smtpwall/internal/config"
)

// place is a directory that `run` needs.
type place struct {
	path     string
	mode     fs.FileMode
	uid, gid uint32
	shared   bool // others may have made it: what is there is looked at and left alone
}

// prepareHost makes the directories that the packaged service gets from its
// unit and from tmpfiles.d, with the same owners: the audit directory is
// root's, so that the proxy can append to its own file and do nothing else. A
// directory that exists keeps its owner and mode.
func prepareHost(cfg *config.Config, owner Owner) error {
	places := []place{
		{filepath.Dir(cfg.Delivery.Spool), 0o755, 0, 0, true},
		{cfg.Delivery.Spool, 0o700, owner.UID, owner.GID, false},
		{CertificateDirectory(cfg), 0o700, owner.UID, owner.GID, false},
		{LimitsDirectory(cfg), 0o700, owner.UID, owner.GID, false},
		{cfg.Audit.Directory, 0o750, 0, owner.GID, true},
		{filepath.Dir(GuardSocket()), 0o755, 0, 0, true},
	}
	for _, p := range places {
		if err := p.prepare(); err != nil {
			return fmt.Errorf("preparing directories: %w", err)
		}
	}
	return errors.Join(
		prepareLog(filepath.Join(cfg.Audit.Directory, TransactionLog), owner.UID, owner.GID),
		prepareLog(filepath.Join(cfg.Audit.Directory, AttemptLog), 0, owner.GID))
}

// prepare makes the directory, or checks the one that is there.
func (p place) prepare() error {
	if err := os.MkdirAll(filepath.Dir(p.path), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(p.path, p.mode)
	if err == nil {
		return giveTo(p.path, p.mode, p.uid, p.gid)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	return p.check()
}

// check refuses a directory in which somebody else could put files in our way.
func (p place) check() error {
	info, err := os.Lstat(p.path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory", p.path)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if owner != p.uid {
		return fmt.Errorf("%s belongs to uid %d and not to uid %d: give it to that user, or name another directory", p.path, owner, p.uid)
	}
	if open := info.Mode().Perm() & 0o022; open != 0 && (!p.shared || info.Mode()&fs.ModeSticky == 0) {
		return fmt.Errorf("%s can be written by others (mode %o): take that away, or name another directory", p.path, info.Mode().Perm())
	}
	return nil
}

// giveTo sets owner and mode of what is ours; a link that somebody put there is
// not followed.
func giveTo(path string, mode fs.FileMode, uid, gid uint32) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a link", path)
	}
	if err := os.Lchown(path, int(uid), int(gid)); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func prepareLog(path string, uid, gid uint32) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0o640)
	if err != nil {
		return fmt.Errorf("preparing the audit log: %w", err)
	}
	if err := file.Close(); err != nil {
		return err
	}
	return giveTo(path, 0o640, uid, gid)
}

// CreateProxyUser makes the proxy's system user and group; remove takes them
// away again.
func CreateProxyUser() (owner Owner, remove func() error, err error) {
	made := exec.Command("useradd", "--system", "--user-group", "--no-create-home",
		"--home-dir", "/var/lib/smtpwall", "--shell", "/usr/sbin/nologin", "--comment", "smtpwall mail proxy", ProxyUser)
	if output, err := made.CombinedOutput(); err != nil {
		return Owner{}, nil, fmt.Errorf("creating the user %s: %w: %s", ProxyUser, err, output)
	}
	remove = func() error { return exec.Command("userdel", ProxyUser).Run() }
	owner, err = LookupOwner()
	return owner, remove, err
}

// HeldFiles counts the messages in the spool without taking it.
func HeldFiles(cfg *config.Config) int { return countFiles(filepath.Join(cfg.Delivery.Spool, "queue")) }

func countFiles(directory string) int {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return 0
	}
	return len(entries)
}

// ErrStays means that the proxy's user owns what must not be lost, and stays; the
// error says what that is.
var ErrStays = errors.New("there are")

// LeaveHost undoes prepareHost for a user that goes away: nothing may be left
// that the next user of its uid would own. The audit log stays, as root's.
func LeaveHost(cfg *config.Config) error {
	for _, state := range []string{"queue", "hold", "corrupt"} {
		if countFiles(filepath.Join(cfg.Delivery.Spool, state)) > 0 {
			return fmt.Errorf("%w messages in %s", ErrStays, cfg.Delivery.Spool)
		}
	}
	// A CA makes a few for a name in a week, and then no more.
	if issued, _ := issuedFiles(issuedDirectory(cfg)); len(issued) > 0 {
		return fmt.Errorf("%w certificates in %s", ErrStays, issuedDirectory(cfg))
	}
	log := filepath.Join(cfg.Audit.Directory, TransactionLog)
	return errors.Join(
		os.RemoveAll(cfg.Delivery.Spool), os.RemoveAll(CertificateDirectory(cfg)), os.RemoveAll(LimitsDirectory(cfg)),
		giveTo(log, 0o640, 0, 0),
		giveTo(filepath.Join(cfg.Audit.Directory, AttemptLog), 0o640, 0, 0))
}
