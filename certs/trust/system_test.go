package trust

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	debianBundle  = "/etc/ssl/certs/ca-certificates.crt"
	debianAnchors = "/usr/local/share/ca-certificates"
	debianJava    = "/etc/ssl/certs/java/cacerts"
)

// TestDebian runs the system's own update command. The machine's store is compared before and after.
func TestDebian(t *testing.T) {
	machine := digestTree(t, "/etc/ssl", debianAnchors)
	onOverlay(t, trustOnDebian)
	if digestTree(t, "/etc/ssl", debianAnchors) != machine && os.Getenv(privateMounts) == "" {
		t.Error("the machine's own store has changed")
	}
}

func trustOnDebian(t *testing.T, root string) {
	ca := newCA(t, caOptions{})
	port, options := ca.serve(t), Options{Certificate: ca.path, Root: root}
	before := digestTree(t, filepath.Join(root, debianBundle), filepath.Join(root, debianAnchors))
	links := linkNames(t, filepath.Join(root, "/etc/ssl/certs"))
	writeFile(t, filepath.Join(root, "/etc/ca-certificates/update.d/smtpwall-test"), "#!/bin/sh\ncat >>/tmp/hooked\n", 0o755)

	expectTrust(t, root, port, false)
	other := Options{Certificate: newCA(t, caOptions{}).path, Root: root}
	if _, err := Install(t.Context(), other); err != nil { // the CA of an earlier installation, which the next replaces
		t.Fatal(err)
	}
	if report, err := Inspect(t.Context(), options); err != nil || report.Places[0].Current || !report.Places[0].Older {
		t.Errorf("with an earlier CA: %+v: %v", report, err)
	}
	for i, changed := range []bool{true, false} {
		report, err := Install(t.Context(), options)
		first := report.Places[0]
		if err != nil || report.Changed() != changed || first.Store != "Debian or Alpine" || first.Path != debianAnchors || !first.Current || first.Older {
			t.Fatalf("install %d: %+v: %v", i+1, report, err)
		}
		if java := at(t, report, debianJava); java.Changed || !java.Current || java.Older {
			t.Errorf("install %d: what the distribution keeps up is %+v", i+1, java)
		}
		expectTrust(t, root, port, true)
	}

	// From here on as an administrator runs it, without a root option.
	enterOverlay(t, root)
	if installed := anchorsIn(t, debianAnchors); len(installed) != 1 {
		t.Errorf("%v were installed at once, want one", installed)
	}
	for i, changed := range []bool{true, false} {
		report, err := Remove(t.Context(), Options{}) // the local CA's directory need not be there
		if err != nil || report.Changed() != changed {
			t.Fatalf("remove %d: %+v: %v", i+1, report, err)
		}
		expectTrust(t, "/", port, false)
	}
	if digestTree(t, debianBundle, debianAnchors) != before {
		t.Error("removing did not bring the store back to what it was")
	}
	if now := linkNames(t, "/etc/ssl/certs"); now != links {
		t.Errorf("links before:\n%s\nafter:\n%s", links, now)
	}
	hooked := readFile(t, "/tmp/hooked")
	if strings.Count(hooked, "+") != 2 || strings.Count(hooked, "-/etc/ssl/certs/smtpwall-local-ca-") != 2 {
		t.Errorf("hooks (Java's is one) were told %q, want two CAs put in and both taken out", hooked)
	}
}

// TestConstrainedCA: name constraints are no hindrance to any store or its readers.
func TestConstrainedCA(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		ca := newCA(t, caOptions{constraints: []string{"localhost"}})
		report, err := Install(t.Context(), Options{Certificate: ca.path})
		if err != nil || !report.Places[0].Current || !at(t, report, debianJava).Current {
			t.Fatalf("%+v: %v", report, err)
		}
		expectTrust(t, "/", ca.serve(t), true)
		if report, err := Remove(t.Context(), Options{}); err != nil || !report.Changed() {
			t.Errorf("%+v: %v", report, err)
		}
	})
}

// TestOthersAnchors: a file that has our name by chance, and is another CA, stays.
func TestOthersAnchors(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		foreign := filepath.Join(debianAnchors, namePrefix+"foreign.crt")
		text := readFile(t, newCA(t, caOptions{organization: "somebody"}).path)
		writeFile(t, foreign, text, 0o644)
		ca := newCA(t, caOptions{})
		if _, err := Install(t.Context(), Options{Certificate: ca.path}); err != nil {
			t.Fatal(err)
		}
		if _, err := Remove(t.Context(), Options{}); err != nil {
			t.Fatal(err)
		}
		if left := anchorsIn(t, debianAnchors); len(left) != 1 || readFile(t, foreign) != text || !strings.Contains(readFile(t, debianBundle), text) {
			t.Errorf("of another CA this is left: %v", left)
		}
	})
}

// TestAnchorGone: who took the anchor away by hand has not taken the CA out; remove does.
func TestAnchorGone(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		ca := newCA(t, caOptions{})
		if _, err := Install(t.Context(), Options{Certificate: ca.path}); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(debianAnchors, ca.name+".crt")); err != nil {
			t.Fatal(err)
		}
		if report, err := Remove(t.Context(), Options{}); err != nil || !report.Changed() {
			t.Fatalf("%+v: %v", report, err)
		}
		expectTrust(t, "/", ca.serve(t), false)
	})
}

// TestElsewhere stands in for other distributions: their directories, and an update command that says how it was
// called.
func TestElsewhere(t *testing.T) { asAdministrator(t, trustElsewhere) }

func trustElsewhere(t *testing.T) {
	forgetJava(t)
	ca := newCA(t, caOptions{})
	options := Options{Certificate: ca.path}
	tests := []struct{ store, anchors, bundle, suffix, update, called string }{
		{"SUSE", "/etc/pki/trust/anchors", "/var/lib/ca-certificates/ca-bundle.pem", ".pem", "update-ca-certificates", "\n"},
		{"Arch", "/etc/ca-certificates/trust-source/anchors", debianBundle, ".crt", "update-ca-trust", "\n"},
		{"Red Hat", "/etc/pki/ca-trust/source/anchors", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", ".pem", "update-ca-trust", "extract\n"},
	}
	for _, test := range tests {
		if err := errors.Join(os.MkdirAll(test.anchors, 0o755), os.MkdirAll(filepath.Dir(test.bundle), 0o755)); err != nil {
			t.Fatal(err)
		}
		writeFile(t, "/usr/sbin/"+test.update, "#!/bin/sh\necho \"$*\" >>/tmp/called\n"+
			"find "+test.anchors+" -type f -exec cat {} + >"+test.bundle+"\n", 0o755)
		report, err := Install(t.Context(), options)
		anchors := anchorsIn(t, test.anchors)
		if err != nil || report.Places[0].Store != test.store || len(anchors) != 1 || !strings.HasSuffix(anchors[0], test.suffix) {
			t.Errorf("%s: %+v, %v: %v", test.store, report, anchors, err)
		}
		if report, err = Remove(t.Context(), options); err != nil || !report.Changed() || len(anchorsIn(t, test.anchors)) != 0 {
			t.Errorf("%s: %+v: %v", test.store, report, err)
		}
		if called := readFile(t, "/tmp/called"); called != test.called+test.called {
			t.Errorf("%s: %s was called with %q", test.store, test.update, called)
		}
		if err := os.Remove("/tmp/called"); err != nil {
			t.Fatal(err)
		}
	}
	failingUpdates(t, options, tests[2].anchors, tests[2].bundle)
}

// failingUpdates: an update command that fails, or does nothing and says nothing.
func failingUpdates(t *testing.T, options Options, anchors, bundle string) {
	t.Helper()
	writeFile(t, "/usr/sbin/update-ca-trust", "#!/bin/sh\necho no room >&2\nexit 3\n", 0o755)
	_, err := Install(t.Context(), options)
	if err == nil || !strings.Contains(err.Error(), "update-ca-trust extract: exit status 3: no room") {
		t.Errorf("a failing update command: %v", err)
	}
	_, err = Remove(t.Context(), options)
	if err == nil || len(anchorsIn(t, anchors)) != 1 || !strings.Contains(err.Error(), "Red Hat, "+anchors+": smtpwall-local-ca-") {
		t.Errorf("a removal that failed cannot be tried again, or does not say what remains: %v", err)
	}
	writeFile(t, "/usr/sbin/update-ca-trust", "#!/bin/sh\n", 0o755)
	if _, err := Install(t.Context(), options); err == nil || !strings.Contains(err.Error(), "reported no error, but") {
		t.Errorf("an update command that does nothing: %v", err)
	}
	writeFile(t, bundle, readFile(t, options.Certificate), 0o644)
	_, err = Remove(t.Context(), options)
	if err == nil || !strings.Contains(err.Error(), "still holds") || len(anchorsIn(t, anchors)) != 1 {
		t.Errorf("a CA that is still trusted was said to be gone: %v", err)
	}
	if err := os.Remove("/usr/sbin/update-ca-trust"); err != nil {
		t.Fatal(err)
	}
	if _, err = findSystem(); err != nil { // Debian's
		t.Errorf("beside the directories of another distribution: %v", err)
	}
}

// TestRedHat uses p11-kit as Red Hat's update-ca-trust does, with its own reading of the anchors.
func TestRedHat(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		const extracted = "/etc/pki/ca-trust/extracted"
		for _, directory := range []string{"/etc/pki/ca-trust/source/anchors", extracted + "/pem", extracted + "/java"} {
			if err := os.MkdirAll(directory, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		writeFile(t, "/etc/pkcs11/modules/p11-kit-trust.module",
			"module: p11-kit-trust.so\ntrust-policy: yes\nx-init-reserved: paths=/etc/pki/ca-trust/source:"+debianBundle+"\n", 0o644)
		writeFile(t, "/usr/bin/update-ca-trust", "#!/bin/sh -e\n"+
			"trust extract --overwrite --comment --format=pem-bundle --filter=ca-anchors --purpose=server-auth "+extracted+"/pem/tls-ca-bundle.pem\n"+
			"trust extract --overwrite --format=java-cacerts --filter=ca-anchors --purpose=server-auth "+extracted+"/java/cacerts\n", 0o755)
		mustRun(t, "/usr/bin/update-ca-trust")
		makeJDK(t, "/opt/jdk", "")
		if err := os.Symlink(extracted+"/java/cacerts", "/opt/jdk/lib/security/cacerts"); err != nil { // as Red Hat's has it
			t.Fatal(err)
		}
		before := digestTree(t, extracted+"/pem")
		ca := newCA(t, caOptions{})
		report, err := Install(t.Context(), Options{Certificate: ca.path})
		if err != nil || report.Places[0].Store != "Red Hat" || !report.Places[0].Current {
			t.Fatalf("%+v: %v", report, err)
		}
		if java := at(t, report, extracted+"/java/cacerts"); java.Changed || !java.Current {
			t.Errorf("what the distribution keeps up is %+v", java)
		}
		if _, err = Remove(t.Context(), Options{}); err != nil || digestTree(t, extracted+"/pem") != before {
			t.Errorf("removing did not bring the bundle back to what it was: %v", err)
		}
	})
}

func TestWithoutStoreOrCA(t *testing.T) {
	ca := newCA(t, caOptions{})
	image := t.TempDir()
	_, err := Install(t.Context(), Options{Certificate: ca.path, Root: image})
	if err == nil || !strings.Contains(err.Error(), "install the package ca-certificates") {
		t.Errorf("without a store: %v", err)
	}
	if report, err := Remove(t.Context(), Options{Root: image}); err != nil || report.Changed() {
		t.Errorf("without a store there is nothing to remove: %+v: %v", report, err)
	}
	writeFile(t, filepath.Join(image, debianAnchors, ca.name+".crt"), readFile(t, ca.path), 0o644)
	_, err = Remove(t.Context(), Options{Root: image})
	if err == nil || !strings.Contains(err.Error(), ca.name+", but there is no update-ca-certificates") {
		t.Errorf("with an anchor and no command: %v", err)
	}
	// The missing CA stops it before anything is touched.
	_, err = Install(t.Context(), Options{Certificate: filepath.Join(t.TempDir(), "root.pem")})
	if err == nil || !strings.Contains(err.Error(), "no local CA yet") {
		t.Errorf("without a CA: %v", err)
	}
}
