package trust

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// makeJDK makes a JDK that has the distribution's keytool and, unless empty, this keystore.
func makeJDK(t *testing.T, home, cacerts string) (path string) {
	t.Helper()
	tool, err := filepath.EvalSymlinks("/usr/bin/keytool")
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Join(home, "bin"), 0o755), os.MkdirAll(filepath.Join(home, "lib/security"), 0o755))
	}
	if err = errors.Join(err, os.Symlink(tool, filepath.Join(home, "bin/keytool"))); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(home, "lib/security/cacerts")
	if cacerts != "" {
		writeFile(t, path, cacerts, 0o644)
	}
	return path
}

// makeKeystore makes a keystore with one other CA in it.
func makeKeystore(t *testing.T, kind, password string, options ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keystore")
	foreign := newCA(t, caOptions{organization: "somebody"}).path
	mustRun(t, "keytool", append(options, "-importcert", "-noprompt", "-alias", "foreign", "-file", foreign,
		"-keystore", path, "-storetype", kind, "-storepass", password)...)
	return readFile(t, path)
}

// trustedByJava reads a keystore as a program's trust manager does: without a password.
func trustedByJava(t *testing.T, path string) string {
	t.Helper()
	return mustRun(t, "sh", "-c", "keytool -J-Duser.language=en -list -rfc -keystore "+path+" </dev/null")
}

// TestKeystores: JDKs that bring their own.
func TestKeystores(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		kinds := map[string]string{
			"JKS": makeKeystore(t, "JKS", keystorePassword),
			// As JDKs have it from 18 on. A store that got a password would be empty for programs.
			"PKCS12": makeKeystore(t, "PKCS12", keystorePassword,
				"-J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE", "-J-Dkeystore.pkcs12.macAlgorithm=NONE"),
		}
		paths := map[string]string{}
		for kind, content := range kinds {
			paths[kind] = makeJDK(t, "/opt/"+kind, content)
		}
		elsewhere := makeJDK(t, "/srv/jdk", kinds["JKS"])
		if err := os.Chmod(paths["JKS"], 0o640); err != nil {
			t.Fatal(err)
		}
		older, ca := newCA(t, caOptions{}), newCA(t, caOptions{})
		if _, err := Install(t.Context(), Options{Certificate: older.path}); err != nil {
			t.Fatal(err)
		}
		report, err := Install(t.Context(), Options{Certificate: ca.path, JavaHomes: []string{"/srv/jdk"}})
		if err != nil {
			t.Fatal(err)
		}
		for kind, path := range paths {
			if p := at(t, report, path); !p.Changed || !p.Current || p.Older {
				t.Errorf("%s: %+v", kind, p)
			}
			if list := trustedByJava(t, path); !strings.Contains(list, ca.name) || !strings.Contains(list, "foreign") || strings.Contains(list, older.name) {
				t.Errorf("%s: after install Java reads\n%s", kind, list)
			}
		}
		if !strings.Contains(trustedByJava(t, elsewhere), ca.name) {
			t.Error("the JDK that JAVA_HOME names was left out")
		}
		again, err := Install(t.Context(), Options{Certificate: ca.path, JavaHomes: []string{"/srv/jdk"}})
		if err != nil || again.Changed() {
			t.Errorf("the second time: %+v: %v", again, err)
		}
		if info, err := os.Stat(paths["JKS"]); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("the keystore's mode is now %v: %v", info.Mode(), err)
		}
		report, err = Remove(t.Context(), Options{JavaHomes: []string{"/srv/jdk"}})
		if err != nil || !at(t, report, elsewhere).Changed {
			t.Errorf("%+v: %v", report, err)
		}
		for kind, path := range paths {
			if list := trustedByJava(t, path); strings.Contains(list, namePrefix) || !strings.Contains(list, "foreign") {
				t.Errorf("%s: after remove Java reads\n%s", kind, list)
			}
		}
	})
}

// TestKeystoreOfAnotherPassword: the rest is done, and the error says what is left to do.
func TestKeystoreOfAnotherPassword(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		content := makeKeystore(t, "PKCS12", "another")
		path := makeJDK(t, "/opt/jdk", content)
		ca := newCA(t, caOptions{})
		report, err := Install(t.Context(), Options{Certificate: ca.path})
		if err == nil || !strings.Contains(err.Error(), "Java, "+path+": its password is not the usual one, changeit; with its own: ") ||
			!strings.Contains(err.Error(), "keytool -importcert -keystore "+path+" -alias "+ca.name) {
			t.Errorf("%v", err)
		}
		if !report.Places[0].Current || !at(t, report, debianJava).Current {
			t.Errorf("the rest was not done: %+v", report.Places)
		}
		if readFile(t, path) != content {
			t.Error("the keystore was written to")
		}
		if report, err := Remove(t.Context(), Options{}); err != nil || at(t, report, path).Changed {
			t.Errorf("we cannot have put anything in: %+v: %v", report, err)
		}
	})
}

// TestJDKOfSomebodyElse: its keytool does not run as root, and neither does one that others can replace.
func TestJDKOfSomebodyElse(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		homes := map[string]func(home string) error{
			"/opt/theirs":   func(home string) error { return os.Chown(home, 1234, 1234) },
			"/opt/open":     func(home string) error { return os.Chmod(filepath.Join(home, "bin"), 0o777) },
			"/opt/keystore": func(home string) error { return os.Chown(filepath.Join(home, "lib/security/cacerts"), 1234, 0) },
			"/opt/a-link": func(home string) error {
				theirs := "/srv/theirs/keytool"
				writeFile(t, theirs, "", 0o755)
				tool := filepath.Join(home, "bin/keytool")
				return errors.Join(os.Chown("/srv/theirs", 1234, 1234), os.Remove(tool), os.Symlink(theirs, tool))
			},
		}
		content := makeKeystore(t, "JKS", keystorePassword)
		for home, change := range homes {
			makeJDK(t, home, content)
			tool := filepath.Join(home, "bin/keytool")
			if err := os.Remove(tool); err != nil {
				t.Fatal(err)
			}
			writeFile(t, tool, "#!/bin/sh\ntouch /tmp/ran\n", 0o755)
			if err := change(home); err != nil {
				t.Fatal(err)
			}
		}
		// Who leads to a good keystore from a bad place does not keep it from being seen to.
		shared := makeJDK(t, "/opt/good", content)
		if err := errors.Join(os.MkdirAll("/opt/a-bad/lib/security", 0o755), os.Symlink(shared, "/opt/a-bad/lib/security/cacerts"), os.Chown("/opt/a-bad", 1234, 1234)); err != nil {
			t.Fatal(err)
		}
		report, err := Install(t.Context(), Options{Certificate: newCA(t, caOptions{}).path})
		if err != nil {
			t.Fatal(err)
		}
		if p := at(t, report, shared); !p.Current {
			t.Errorf("%+v", p)
		}
		for home := range homes {
			path := filepath.Join(home, "lib/security/cacerts")
			if p := at(t, report, path); !strings.HasPrefix(p.Note, "left alone, since root must not run what others can change: ") || p.Changed {
				t.Errorf("%s: %+v", home, p)
			}
			if readFile(t, path) != content {
				t.Errorf("%s was written to", path)
			}
		}
		if _, err := os.Stat("/tmp/ran"); err == nil {
			t.Error("somebody else's keytool ran as root")
		}
	})
}

// TestKeytoolThatLies: what it says it did is checked, and the keystore is not replaced by something else.
func TestKeytoolThatLies(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		tool, err := exec.LookPath("keytool")
		if err != nil {
			t.Fatal(err)
		}
		path := makeJDK(t, "/opt/jdk", makeKeystore(t, "JKS", keystorePassword))
		for name, script := range map[string]string{
			"does nothing":       `case "$*" in *-importcert*) exit 0;; esac`,
			"drops another's CA": `case "$*" in *-importcert*) ` + tool + ` -delete -keystore "$5" -storepass changeit -alias foreign;; esac`,
			"is killed":          `case "$*" in *-importcert*) : >"$5"; kill -9 $$;; esac`,
		} {
			before := readFile(t, path)
			if err := os.Remove("/opt/jdk/bin/keytool"); err != nil {
				t.Fatal(err)
			}
			writeFile(t, "/opt/jdk/bin/keytool", "#!/bin/sh\n"+script+"\nexec "+tool+" \"$@\"\n", 0o755)
			_, err := Install(t.Context(), Options{Certificate: newCA(t, caOptions{}).path})
			if err == nil || !strings.Contains(err.Error(), "Java, "+path+": ") || readFile(t, path) != before {
				t.Errorf("a keytool that %s: %v", name, err)
			}
		}
	})
}
