package trust

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
)

// The users of the tests, beside root.
const (
	aliceUID, eveUID = 23001, 23002
	passwdLines      = "alice:x:23001:23001::/home/alice:/bin/sh\neve:x:23002:23002::/home/eve:/bin/sh\n"
)

// makeUsers adds alice and eve to the host, each with a home.
func makeUsers(t *testing.T) {
	t.Helper()
	file, err := os.OpenFile("/etc/passwd", os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = file.WriteString(passwdLines)
		err = errors.Join(err, file.Close())
	}
	for name, uid := range map[string]int{"alice": aliceUID, "eve": eveUID} {
		home := filepath.Join("/home", name)
		err = errors.Join(err, os.MkdirAll(home, 0o700), os.Chown(home, uid, uid))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// as runs a shell's line as a user.
func as(t *testing.T, uid uint32, line string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", line)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, output)
	}
	return string(output)
}

// makeDatabase makes a database as its user.
func makeDatabase(t *testing.T, uid uint32, directory string) string {
	t.Helper()
	as(t, uid, "mkdir -p "+directory+" && certutil -N -d sql:"+directory+" --empty-password")
	return directory
}

func listDatabase(t *testing.T, directory string) string {
	t.Helper()
	return mustRun(t, "certutil", "-L", "-d", "sql:"+directory)
}

// trusts tells whether NSS takes a certificate of the CA for a server's.
func trusts(t *testing.T, directory string, ca *testCA) bool {
	t.Helper()
	leaf := filepath.Join(t.TempDir(), "leaf.pem")
	writeFile(t, leaf, string(pemOf("CERTIFICATE", ca.leaf(t).Certificate[0])), 0o644)
	output, err := exec.Command("/usr/bin/vfychain", "-d", "sql:"+directory, "-u", "1", "-a", leaf).CombinedOutput()
	t.Logf("%s", output)
	return err == nil
}

// TestDatabases: who is meant, and that files stay those of their users.
func TestDatabases(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		makeUsers(t)
		roots := makeDatabase(t, 0, "/root/.pki/nssdb")
		systems := makeDatabase(t, 0, systemDatabase)
		alices := []string{
			makeDatabase(t, aliceUID, "/home/alice/.mozilla/firefox/a1.default"),
			makeDatabase(t, aliceUID, "/home/alice/snap/thunderbird/common/.thunderbird/x.default"),
		}
		eves := makeDatabase(t, eveUID, "/home/eve/.pki/nssdb")
		older, ca := newCA(t, caOptions{}), newCA(t, caOptions{constraints: []string{"localhost"}})
		if _, err := Install(t.Context(), Options{Certificate: older.path, Users: []string{"alice"}}); err != nil {
			t.Fatal(err)
		}
		for i, changed := range []bool{true, false} {
			report, err := Install(t.Context(), Options{Certificate: ca.path, Users: []string{"alice"}})
			if err != nil || report.Changed() != changed {
				t.Fatalf("install %d: %+v: %v", i+1, report, err)
			}
			for _, directory := range append([]string{roots, systems}, alices...) {
				if p := at(t, report, directory); !p.Current || p.Older {
					t.Errorf("%+v", p)
				}
				if list := listDatabase(t, directory); !strings.Contains(list, ca.name) || strings.Contains(list, older.name) {
					t.Errorf("%s holds\n%s", directory, list)
				}
			}
		}
		if !trusts(t, roots, ca) {
			t.Error("NSS does not verify a certificate of the local CA")
		}
		checkOwner(t, alices[0], aliceUID)
		if strings.Contains(listDatabase(t, eves), namePrefix) {
			t.Error("eve was not named")
		}
		if report, err := Install(t.Context(), Options{Certificate: ca.path, AllUsers: true}); err != nil || !at(t, report, eves).Current {
			t.Errorf("all users: %+v: %v", report, err)
		}
		report, err := Remove(t.Context(), Options{}) // whoever was named then
		if err != nil {
			t.Fatal(err)
		}
		for _, directory := range append([]string{roots, systems, eves}, alices...) {
			if !at(t, report, directory).Changed || strings.Contains(listDatabase(t, directory), namePrefix) {
				t.Errorf("%s: %+v, and it holds\n%s", directory, at(t, report, directory), listDatabase(t, directory))
			}
		}
		if report, err := Remove(t.Context(), Options{}); err != nil || report.Changed() {
			t.Errorf("the second time: %+v: %v", report, err)
		}
		report, err = Install(t.Context(), Options{Certificate: ca.path, Users: []string{"nobody-here"}})
		if err == nil || !strings.Contains(err.Error(), "there is no user nobody-here") || report.Changed() {
			t.Errorf("a user that does not exist: %+v: %v", report, err)
		}
	})
}

func checkOwner(t *testing.T, directory string, uid uint32) {
	t.Helper()
	files, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != uid {
			t.Errorf("%s of uid %d: %+v: %v", file.Name(), uid, info, err)
		}
	}
}

// TestDatabaseBehindALink: a user's link to a database of root's gets nobody anything.
func TestDatabaseBehindALink(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		makeUsers(t)
		roots := makeDatabase(t, 0, "/root/database")
		makeDatabase(t, 0, "/srv/readable")
		if err := errors.Join(os.Chmod("/root", 0o700), os.Chmod("/srv/readable/cert9.db", 0o644), os.Chmod("/srv/readable/key4.db", 0o644)); err != nil {
			t.Fatal(err)
		}
		as(t, eveUID, "mkdir /home/eve/.pki /home/eve/.mozilla && ln -s "+roots+" /home/eve/.pki/nssdb && mkdir -p /home/eve/.mozilla/firefox/p &&"+
			" ln -s /root/database/cert9.db /home/eve/.mozilla/firefox/p/cert9.db && ln -s /srv/readable /home/eve/.mozilla/firefox/q")
		before := digestTree(t, roots, "/srv/readable")
		report, err := Install(t.Context(), Options{Certificate: newCA(t, caOptions{}).path, Users: []string{"eve"}})
		if err == nil || !strings.Contains(err.Error(), "NSS, /home/eve/.mozilla/firefox/q: ") {
			t.Errorf("a database that eve cannot write: %+v: %v", report, err)
		}
		for _, p := range report.Places {
			if p.Path == "/home/eve/.pki/nssdb" || p.Path == "/home/eve/.mozilla/firefox/p" {
				t.Errorf("what eve cannot read was looked into: %+v", p)
			}
		}
		if digestTree(t, roots, "/srv/readable") != before {
			t.Error("root's database was written to")
		}
		// Root's own directory where others can write is as bad.
		writable := makeDatabase(t, 0, "/root/.pki/nssdb")
		if err := os.Chmod("/root/.pki", 0o777); err != nil {
			t.Fatal(err)
		}
		report, err = Install(t.Context(), Options{Certificate: newCA(t, caOptions{}).path})
		if err != nil || !strings.HasPrefix(at(t, report, writable).Note, "left alone, since root must not write where others can: ") {
			t.Errorf("%+v: %v", report, err)
		}
	})
}

// TestDatabaseWithPassword: the rest is done, nothing is left in it, and the error says what to do.
func TestDatabaseWithPassword(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		makeUsers(t)
		directory := "/home/alice/.pki/nssdb"
		as(t, aliceUID, "mkdir -p "+directory+" && echo secret99 >/home/alice/password && certutil -N -d sql:"+directory+" -f /home/alice/password")
		ca := newCA(t, caOptions{})
		report, err := Install(t.Context(), Options{Certificate: ca.path, Users: []string{"alice"}})
		if err == nil || !strings.Contains(err.Error(), "it has a password of its own; as alice") || !report.Places[0].Current {
			t.Errorf("%+v: %v", report, err)
		}
		if strings.Contains(listDatabase(t, directory), namePrefix) {
			t.Error("a CA without trust was left in the database")
		}
		if report, err = Remove(t.Context(), Options{}); err != nil {
			t.Errorf("%+v: %v", report, err)
		}
	})
}

// TestWithoutCertutil: no error where there is nothing to remove, and one where there is.
func TestWithoutCertutil(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		directory := makeDatabase(t, 0, "/root/.pki/nssdb")
		ca := newCA(t, caOptions{})
		path := commandPath("certutil")
		if err := os.Rename(path, "/usr/bin/kept"); err != nil {
			t.Fatal(err)
		}
		report, err := Install(t.Context(), Options{Certificate: ca.path})
		if err != nil || !strings.Contains(at(t, report, directory).Note, "certutil is not installed") {
			t.Errorf("%+v: %v", report, err)
		}
		if _, err = Remove(t.Context(), Options{}); err != nil {
			t.Errorf("nothing is there to be removed: %v", err)
		}
		if err := os.Rename("/usr/bin/kept", path); err != nil {
			t.Fatal(err)
		}
		if _, err := Install(t.Context(), Options{Certificate: ca.path}); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path, "/usr/bin/kept"); err != nil {
			t.Fatal(err)
		}
		report, err = Remove(t.Context(), Options{})
		if err == nil || !strings.Contains(err.Error(), "NSS, "+directory+": it holds a local CA, and certutil is not installed") {
			t.Errorf("a CA that stays was said to be gone: %v", err)
		}
		if !report.Places[0].Changed {
			t.Error("the rest was not done")
		}
	})
}

// TestNamesForTheTerminal: what a user can have printed to root does nothing there.
func TestNamesForTheTerminal(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		makeUsers(t)
		ca := newCA(t, caOptions{})
		directory := makeDatabase(t, eveUID, "/home/eve/.pki/nssdb")
		makeDatabase(t, eveUID, "'/home/eve/.mozilla/firefox/p\x1b[2J'")
		writeFile(t, "/tmp/ca.pem", readFile(t, ca.path), 0o644)
		as(t, eveUID, "certutil -A -d sql:"+directory+" -t C,, -n '"+namePrefix+"\x1b[2J' -i /tmp/ca.pem")
		report, err := Inspect(t.Context(), Options{Certificate: ca.path})
		if text := fmt.Sprint(report, err); strings.Contains(text, "\x1b") || !strings.Contains(text, directory) {
			t.Errorf("%q", text)
		}
		if got := lastWords([]byte("one\r\ntwo \x1b[2J\xff\n" + strings.Repeat("x", maxWords))); got != strings.Repeat("x", maxWords) {
			t.Errorf("%q", got)
		}
		if got := lastWords([]byte("one\r\n\ntwo \x1b[2J\xff\n")); got != "one; two ?[2J" {
			t.Errorf("%q", got)
		}
	})
}

func TestContains(t *testing.T) {
	words := []byte(commonNamePrefix)
	for _, before := range []int{0, 1, 64<<10 - 5, 64 << 10, 200_000} {
		text := strings.Repeat("s", before) + commonNamePrefix + "12345678"
		for name, r := range map[string]func() (bool, error){
			"whole":  func() (bool, error) { return contains(strings.NewReader(text), words) },
			"halves": func() (bool, error) { return contains(iotest.HalfReader(strings.NewReader(text)), words) },
			"bytes":  func() (bool, error) { return contains(iotest.OneByteReader(strings.NewReader(text)), words) },
		} {
			if found, err := r(); err != nil || !found {
				t.Errorf("after %d bytes, read by %s: %v, %v", before, name, found, err)
			}
		}
		if found, err := contains(strings.NewReader(text[:before+5]), words); err != nil || found {
			t.Errorf("half of the words after %d bytes: %v, %v", before, found, err)
		}
	}
	if _, err := contains(iotest.ErrReader(os.ErrPermission), words); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a file that cannot be read: %v", err)
	}
}

func TestParseAccount(t *testing.T) {
	for line, want := range map[string]account{
		"alice:x:1000:1001:Alice,,:/home/alice/:/bin/sh\n": {"alice", 1000, 1001, "/home/alice"},
		"root:x:0:0::/root:":                {"root", 0, 0, "/root"},
		"nohome:x:5:5:::/bin/sh":            {},
		"+nis::::::":                        {},
		"big:x:4294967296:0::/home:/bin/sh": {},
		"short:x:1:1":                       {},
		"":                                  {},
	} {
		if got, ok := parseAccount(line); got != want || ok != (want.name != "") {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
}
