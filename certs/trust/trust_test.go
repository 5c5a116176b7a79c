package trust

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDryRun: it changes nothing, and says of each store what is then done there.
func TestDryRun(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		keystore := makeJDK(t, "/opt/jdk", makeKeystore(t, "JKS", keystorePassword))
		database := makeDatabase(t, 0, "/root/.pki/nssdb")
		places := []string{"/etc/ssl", debianAnchors, "/opt/jdk", database}
		ca := newCA(t, caOptions{})
		options := Options{Certificate: ca.path}
		for _, act := range []func(Options) (Report, error){
			func(o Options) (Report, error) { return Install(t.Context(), o) },
			func(o Options) (Report, error) { return Remove(t.Context(), o) },
		} {
			before := digestTree(t, places...)
			options.DryRun = true
			would, err := act(options)
			if err != nil || !would.Changed() || digestTree(t, places...) != before {
				t.Fatalf("a dry run that fails, or changes something: %+v: %v", would, err)
			}
			options.DryRun = false
			did, err := act(options)
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{debianAnchors, keystore, database} {
				if said, done := steps(at(t, would, path)), steps(at(t, did, path)); len(done) == 0 || !slices.Equal(said, done) {
					t.Errorf("%s: it said\n%s\nand did\n%s", path, strings.Join(said, "\n"), strings.Join(done, "\n"))
				}
			}
		}
	})
}

// steps are those of a place without the names of temporary files, which a dry run has not.
func steps(p Place) (steps []string) {
	for _, step := range p.Did {
		words := strings.Fields(step)
		for i, word := range words {
			if strings.HasPrefix(word, "/tmp/") || word == "LIST" || word == "COPY" {
				words[i] = "FILE"
			}
		}
		steps = append(steps, strings.Join(words, " "))
	}
	return steps
}

// TestImage: links of an image lead to where they lead in its container, its own commands run, and nothing of the host
// changes.
func TestImage(t *testing.T) {
	onOverlay(t, func(t *testing.T, root string) {
		enterOverlay(t, root) // where the host's may be changed, so that it shows
		const image = "/srv/image"
		makeImage(t, image)
		host := digestTree(t, "/etc/ssl", debianAnchors, "/usr/local/share")
		before := digestTree(t, image+"/data", image+"/dev", image+"/tmp", image+"/etc")
		ca := newCA(t, caOptions{})
		report, err := Install(t.Context(), Options{Certificate: ca.path, Root: image})
		if err != nil || !report.Places[0].Current || report.Places[0].Path != debianAnchors {
			t.Fatalf("%+v: %v", report, err)
		}
		if anchors := anchorsIn(t, image+"/data/anchors"); len(anchors) != 1 {
			t.Errorf("behind the image's link are %v", anchors)
		}
		if !strings.Contains(readFile(t, image+"/data/bundle.crt"), readFile(t, ca.path)) {
			t.Error("the image's bundle does not hold the CA")
		}
		if _, err := Remove(t.Context(), Options{Root: image}); err != nil {
			t.Error(err)
		}
		if digestTree(t, image+"/data", image+"/dev", image+"/tmp", image+"/etc") != before {
			t.Error("the image is not what it was")
		}
		if digestTree(t, "/etc/ssl", debianAnchors, "/usr/local/share") != host {
			t.Error("something of the host has changed")
		}
		if now, err := os.Readlink("/proc/self/root"); err != nil || now != "/" {
			t.Errorf("the test's own root directory is %s: %v", now, err)
		}
		if wd, err := os.Getwd(); err != nil || wd != "/" {
			t.Errorf("the test's own directory is %s: %v", wd, err)
		}
	})
}

// makeImage makes the file system of a small container, with absolute links, and without what /dev and /proc have.
func makeImage(t *testing.T, image string) {
	t.Helper()
	var err error
	for _, directory := range []string{"dev", "proc", "tmp", "usr/local/share", "etc/ssl/certs", "data/anchors", "usr/sbin"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(image, directory), 0o755))
	}
	err = errors.Join(err,
		os.Symlink("/data/anchors", filepath.Join(image, debianAnchors)),
		os.Symlink("/data/bundle.crt", filepath.Join(image, debianBundle)))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(image, "data/bundle.crt"), "", 0o644)
	// The host's shell and tools, since the image has none: the script says if /dev or /proc is not lent.
	for _, directory := range []string{"bin", "lib", "lib64", "usr/bin", "usr/lib", "usr/lib64"} {
		if _, err := os.Stat("/" + directory); err != nil {
			continue
		}
		target := filepath.Join(image, directory)
		if err := os.MkdirAll(target, 0o755); err != nil {
			t.Fatal(err)
		}
		bind(t, "/"+directory, target)
	}
	writeFile(t, filepath.Join(image, "usr/sbin/update-ca-certificates"), "#!/bin/sh -e\n"+
		"test -c /dev/null\ntest -d /proc/self\n"+
		": >/data/bundle.crt\nfor anchor in "+debianAnchors+"/*.crt; do\n"+
		"  test ! -e \"$anchor\" || cat \"$anchor\" >>/data/bundle.crt\ndone\n", 0o755)
}

// TestPartialRemove: what can be removed is, what cannot is named, and the next time is for that alone.
func TestPartialRemove(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		keystore := makeJDK(t, "/opt/jdk", makeKeystore(t, "JKS", keystorePassword))
		database := makeDatabase(t, 0, "/root/.pki/nssdb")
		ca := newCA(t, caOptions{})
		if _, err := Install(t.Context(), Options{Certificate: ca.path}); err != nil {
			t.Fatal(err)
		}
		update := readFile(t, "/usr/sbin/update-ca-certificates")
		writeFile(t, "/usr/sbin/update-ca-certificates", "#!/bin/sh\necho no room >&2\nexit 1\n", 0o755)
		report, err := Remove(t.Context(), Options{})
		want := "Debian or Alpine, " + debianAnchors + ": " + ca.name + " remains: "
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v; want %s", err, want)
		}
		if !at(t, report, keystore).Changed || !at(t, report, database).Changed {
			t.Errorf("the rest was not done: %+v", report.Places)
		}
		writeFile(t, "/usr/sbin/update-ca-certificates", update, 0o755)
		report, err = Remove(t.Context(), Options{})
		if err != nil || !report.Places[0].Changed || at(t, report, keystore).Changed || at(t, report, database).Changed {
			t.Errorf("the second time: %+v: %v", report, err)
		}
	})
}

// TestInspect: an anchor alone makes nobody trust a CA.
func TestInspect(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		ca := newCA(t, caOptions{})
		writeFile(t, filepath.Join(debianAnchors, ca.name+".crt"), readFile(t, ca.path), 0o644)
		report, err := Inspect(t.Context(), Options{Certificate: ca.path})
		if err != nil || report.Name != ca.name || report.Places[0].Current || len(report.Places[0].Trusted) != 0 {
			t.Errorf("with an anchor alone: %+v: %v", report, err)
		}
		if _, err := Install(t.Context(), Options{Certificate: ca.path}); err != nil {
			t.Fatal(err)
		}
		report, err = Inspect(t.Context(), Options{Certificate: ca.path})
		if err != nil || !report.Places[0].Current || report.Places[0].Older || !slices.Equal(report.Places[0].Trusted, []string{ca.name}) {
			t.Errorf("installed: %+v: %v", report, err)
		}
		report, err = Inspect(t.Context(), Options{Certificate: "/nonexistent"}) // the local CA is gone
		if err != nil || report.Name != "" || report.Places[0].Current || !report.Places[0].Older {
			t.Errorf("without a local CA: %+v: %v", report, err)
		}
	})
}
