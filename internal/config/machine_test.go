package config

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// unitDirectories makes directories as systemd has them, the first of which
// counts before the second.
func unitDirectories(t *testing.T) []string {
	root := t.TempDir()
	own, packaged := filepath.Join(root, "etc"), filepath.Join(root, "usr")
	for _, directory := range []string{own, packaged, filepath.Join(own, "nginx.service.d"), filepath.Join(own, "multi-user.target.wants"), filepath.Join(own, "odd.service")} {
		if err := os.MkdirAll(directory, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"usr/nginx.service", "usr/mariadb.service", "usr/postfix@.service", "usr/getty@.service", "usr/basic.target", "usr/README", "usr/ssh.socket", "usr/masked.service"} {
		if err := os.WriteFile(filepath.Join(root, path), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, target := range map[string]string{
		"etc/mysql.service":      packaged + "/mariadb.service",
		"usr/mysqld.service":     "mariadb.service",
		"etc/autovt@.service":    "../usr/getty@.service",
		"etc/linked.service":     "/opt/linked/linked.service",
		"etc/masked.service":     "/dev/null",
		"etc/elsewhere.service":  "/opt/elsewhere/unit.conf",
		"usr/displaced.service":  "mariadb.service",
		"etc/displaced.service":  packaged + "/nginx.service",
		"etc/nginx.service.rpm~": "nowhere",
	} {
		if err := os.Symlink(target, filepath.Join(root, path)); err != nil {
			t.Fatal(err)
		}
	}
	return []string{own, filepath.Join(root, "missing"), packaged}
}

func TestUnitFiles(t *testing.T) {
	got := unitFiles(unitDirectories(t))
	want := map[string]string{
		"nginx.service": "nginx.service", "mariadb.service": "mariadb.service", "mysql.service": "mariadb.service", "mysqld.service": "mariadb.service",
		"postfix@.service": "postfix@.service", "getty@.service": "getty@.service", "autovt@.service": "getty@.service", "ssh.socket": "ssh.socket",
		"linked.service": "linked.service", "masked.service": "masked.service", "elsewhere.service": "elsewhere.service", "displaced.service": "nginx.service",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if got := unitFiles([]string{"/nonexistent"}); got != nil {
		t.Errorf("without directories: %v", got)
	}
}

func TestMachineUnit(t *testing.T) {
	machine := &Machine{Units: unitFiles(unitDirectories(t))}
	for name, want := range map[string]string{
		"nginx.service": "nginx.service", "mysql.service": "mariadb.service", "postfix@-.service": "postfix@-.service", "postfix@a.b@c.service": "postfix@a.b@c.service",
		"autovt@tty1.service": "getty@tty1.service", "nginx": "", "ngnix.service": "", "postfix.service": "", "nginx@1.service": "", "postfix@1.socket": "", "": "", "@": "",
	} {
		got, known := machine.unit(name)
		if known != (want != "") || known && got != want {
			t.Errorf("%q: got %q, %t, want %q", name, got, known, want)
		}
	}
	if _, known := (&Machine{}).unit("nginx.service"); known {
		t.Error("known on a machine that nobody knows")
	}
}

func TestThisMachine(t *testing.T) {
	machine := ThisMachine()
	if machine.Users["root"] != "0" || len(machine.Groups) == 0 {
		t.Errorf("no root in %+v", machine)
	}
	for path, want := range map[string]error{"/bin/sh": nil, "/etc/passwd": fs.ErrNotExist, "/etc": fs.ErrNotExist, "/nonexistent": fs.ErrNotExist} {
		if got := machine.Program(path); !errors.Is(got, want) {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
	for directory, want := range map[string]bool{"/etc": false, "/tmp": true, "/tmp/smtpwall-none/deeper": true, "/nonexistent": false} {
		if got := machine.Shared(directory); got != want {
			t.Errorf("%s: got %t, want %t", directory, got, want)
		}
	}
}
