package app

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/config"
)

func prepared(t *testing.T) (*config.Config, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test changes owners and needs root")
	}
	dir := t.TempDir()
	t.Setenv("RUNTIME_DIRECTORY", filepath.Join(dir, "run"))
	cfg := config.Default()
	cfg.Delivery.Spool, cfg.Audit.Directory = filepath.Join(dir, "state", "spool"), filepath.Join(dir, "log")
	return cfg, dir
}

func ownerOf(t *testing.T, path string) (uid uint32, mode fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid, info.Mode()
}

func TestPrepareHost(t *testing.T) {
	cfg, dir := prepared(t)
	for range 2 { // the second time everything is there
		if err := prepareHost(cfg, Owner{64123, 64123}); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]struct {
		uid  uint32
		mode fs.FileMode
	}{
		"state": {0, fs.ModeDir | 0o755}, "state/spool": {64123, fs.ModeDir | 0o700}, "state/certs": {64123, fs.ModeDir | 0o700},
		"log": {0, fs.ModeDir | 0o750}, "log/transactions.jsonl": {64123, 0o640}, "log/attempts.jsonl": {0, 0o640},
		"run": {0, fs.ModeDir | 0o755},
	} {
		if uid, mode := ownerOf(t, filepath.Join(dir, path)); uid != want.uid || mode != want.mode {
			t.Errorf("%s: uid %d, %v; want %d, %v", path, uid, mode, want.uid, want.mode)
		}
	}
	if err := LeaveHost(cfg); err != nil {
		t.Fatal(err)
	}
	for path := range map[string]bool{"state/spool": true, "state/certs": true} {
		if _, err := os.Lstat(filepath.Join(dir, path)); !os.IsNotExist(err) {
			t.Errorf("%s is left for the next user of the uid", path)
		}
	}
}

// Whoever owns mail, or certificates of which a CA makes a few a week, stays.
func TestLeaveHostKeepsWhatMustNotBeLost(t *testing.T) {
	for _, kept := range []string{"state/spool/queue/01M80XRGS7178BAX4X45X5Q08F.hold", "state/certs/acme/certificates/ca/vps1.example.net/vps1.example.net.crt"} {
		cfg, dir := prepared(t)
		if err := prepareHost(cfg, Owner{64123, 64123}); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, kept)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := LeaveHost(cfg); !errors.Is(err, ErrStays) {
			t.Errorf("%s: %v", kept, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}

// What was there before keeps its owner and mode, and is refused where others
// could put files in our way.
func TestPrepareHostLeavesOthersDirectoriesAlone(t *testing.T) {
	for name, test := range map[string]struct {
		path string
		mode fs.FileMode
		uid  int
		err  string
	}{
		"a shared parent":       {"state", 0o777 | fs.ModeSticky, 0, ""},
		"an open parent":        {"state", 0o777, 0, "can be written by others"},
		"somebody's parent":     {"state", 0o755, 64200, "belongs to uid 64200"},
		"somebody's spool":      {"state/spool", 0o700, 64200, "belongs to uid 64200"},
		"a shared log folder":   {"log", 0o775 | fs.ModeSticky, 0, ""},
		"an open log folder":    {"log", 0o775, 0, "can be written by others"},
		"an open spool":         {"state/spool", 0o777 | fs.ModeSticky, 64123, "can be written by others"},
		"the packaged spool":    {"state/spool", 0o700, 64123, ""},
		"root's log, as it was": {"log", 0o755, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, dir := prepared(t)
			path := filepath.Join(dir, test.path)
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(path, test.uid, -1); err != nil {
				t.Fatal(err)
			}
			_, before := ownerOf(t, path)
			err := prepareHost(cfg, Owner{64123, 64123})
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("%v, want %q", err, test.err)
			}
			if uid, mode := ownerOf(t, path); int(uid) != test.uid || mode != before {
				t.Errorf("it is now of uid %d, mode %v; it was of %d, %v", uid, mode, test.uid, before)
			}
		})
	}
}

func TestPrepareHostFollowsNoLink(t *testing.T) {
	cfg, dir := prepared(t)
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(cfg.Audit.Directory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(cfg.Audit.Directory, TransactionLog)); err != nil {
		t.Fatal(err)
	}
	if err := prepareHost(cfg, Owner{64123, 64123}); err == nil {
		t.Fatal("a link in the place of the audit log was followed")
	}
	if uid, _ := ownerOf(t, target); uid != 0 {
		t.Fatalf("what the link leads to belongs to uid %d now", uid)
	}
}

// Taking the block down is an explicit act: a file that says nothing of the mode
// does not.
func TestReloadKeepsTheBlock(t *testing.T) {
	parse := func(text string) *config.Config {
		cfg, problems := config.Parse("test", []byte(text), config.Options{})
		if cfg == nil {
			t.Fatal(problems)
		}
		return cfg
	}
	enforce, silent, observe := parse("mode = \"enforce\"\n"), parse("[host]\nname = \"a.test\"\n"), parse("mode = \"observe\"\n")
	if err := keepsBlock(enforce, silent); err == nil || !strings.Contains(err.Error(), `mode = "observe"`) {
		t.Errorf("a file without mode: %v", err)
	}
	for name, pair := range map[string][2]*config.Config{
		"enforce to observe": {enforce, observe}, "observe to silence": {observe, silent}, "silence to silence": {silent, silent}, "silence to enforce": {silent, enforce},
	} {
		if err := keepsBlock(pair[0], pair[1]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
