package certs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// privateMounts marks the child process that has a mount namespace of its own.
const privateMounts = "SMTPWALL_TEST_PRIVATE_MOUNTS"

// TestTrust runs the system's own update command, on a copy-on-write view of the machine that only a child process
// sees. The machine's store is compared before and after.
func TestTrust(t *testing.T) {
	if os.Getenv(privateMounts) != "" {
		trustOnOverlay(t)
		return
	}
	t.Parallel()
	before := digestTree(t, "/etc/ssl", "/usr/local/share/ca-certificates")
	command := exec.Command("/proc/self/exe", "-test.run=^TestTrust$", "-test.v")
	command.Env = append(os.Environ(), privateMounts+"=1", "TMPDIR="+t.TempDir()) // it cannot tidy up from below another root
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	output, err := command.CombinedOutput()
	t.Logf("%s", output)
	if err != nil {
		t.Errorf("in a mount namespace of its own (needs root): %v", err)
	}
	if after := digestTree(t, "/etc/ssl", "/usr/local/share/ca-certificates"); after != before {
		t.Error("the machine's own store has changed")
	}
}

func trustOnOverlay(t *testing.T) {
	root := mountOverlay(t)
	ctx, options := context.Background(), TrustOptions{Directory: t.TempDir(), Root: root}
	address := serveTLS(t, options.Directory)
	const bundle, anchors = "/etc/ssl/certs/ca-certificates.crt", "/usr/local/share/ca-certificates"
	before := digestTree(t, filepath.Join(root, bundle), filepath.Join(root, anchors))
	links := linkNames(t, filepath.Join(root, "/etc/ssl/certs"))

	writeExecutable(t, filepath.Join(root, "/etc/ca-certificates/update.d/smtpwall-test"), "#!/bin/sh\ncat >>/tmp/hooked\n")

	expectTrust(t, root, address, false)
	other := TrustOptions{Directory: t.TempDir(), Root: root}
	open(t, Options{Directory: other.Directory})
	if _, err := TrustInstall(ctx, other); err != nil { // the CA of an earlier installation, which the next replaces
		t.Fatal(err)
	}
	for i, changed := range []bool{true, false} {
		report, err := TrustInstall(ctx, options)
		if err != nil || report.Changed != changed || report.Store != "Debian or Alpine" || len(report.Paths) != 1 {
			t.Fatalf("install %d: %+v: %v", i+1, report, err)
		}
		expectTrust(t, root, address, true)
	}

	// From here on as an administrator runs it, without a root option.
	if err := unix.Chroot(root); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chdir("/"), os.MkdirAll(os.TempDir(), 0o700)); err != nil { // a test for coverage wants the latter
		t.Fatal(err)
	}
	installed := anchorsIn(t, anchors)
	for i, changed := range []bool{true, false} {
		report, err := TrustRemove(ctx, TrustOptions{})
		if err != nil || report.Changed != changed {
			t.Fatalf("remove %d: %+v: %v", i+1, report, err)
		}
		expectTrust(t, "/", address, false)
	}
	if digestTree(t, bundle, anchors) != before {
		t.Error("removing did not bring the store back to what it was")
	}
	if now := linkNames(t, "/etc/ssl/certs"); now != links {
		t.Errorf("links before:\n%s\nafter:\n%s", links, now)
	}
	hooked, _ := os.ReadFile("/tmp/hooked")
	if strings.Count(string(hooked), "+") != 2 || strings.Count(string(hooked), "-/etc/ssl/certs/smtpwall-local-ca-") != 2 {
		t.Errorf("hooks (Java's is one) were told %q, want two CAs put in and both taken out", hooked)
	}
	if len(installed) != 1 {
		t.Errorf("%v were installed at once, want one", installed)
	}
	trustElsewhere(t)
}

// trustElsewhere stands in for other distributions: their directories, and an update command that says how it was
// called. It runs where the root directory may be written to.
func trustElsewhere(t *testing.T) {
	ctx, options := context.Background(), TrustOptions{Directory: "/tmp/elsewhere"}
	open(t, Options{Directory: options.Directory})
	tests := []struct{ store, anchors, bundle, suffix, called string }{
		{"Arch", "/etc/ca-certificates/trust-source/anchors", "/etc/ssl/certs/ca-certificates.crt", ".crt", "\n"},
		{"Red Hat", "/etc/pki/ca-trust/source/anchors", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", ".pem", "extract\n"},
	}
	for _, test := range tests {
		if err := errors.Join(os.MkdirAll(test.anchors, 0o755), os.MkdirAll(filepath.Dir(test.bundle), 0o755)); err != nil {
			t.Fatal(err)
		}
		writeExecutable(t, "/usr/bin/update-ca-trust", "#!/bin/sh\necho \"$*\" >>/tmp/called\n"+
			"find "+test.anchors+" -type f -exec cat {} + >"+test.bundle+"\n")
		report, err := TrustInstall(ctx, options)
		anchors := anchorsIn(t, test.anchors)
		if err != nil || report.Store != test.store || len(anchors) != 1 || !strings.HasSuffix(anchors[0], test.suffix) {
			t.Errorf("%s: %+v, %v: %v", test.store, report, anchors, err)
		}
		if report, err = TrustRemove(ctx, options); err != nil || !report.Changed || len(anchorsIn(t, test.anchors)) != 0 {
			t.Errorf("%s: %+v: %v", test.store, report, err)
		}
		called, _ := os.ReadFile("/tmp/called")
		if string(called) != test.called+test.called {
			t.Errorf("%s: update-ca-trust was called with %q", test.store, called)
		}
		os.Remove("/tmp/called")
	}

	writeExecutable(t, "/usr/bin/update-ca-trust", "#!/bin/sh\necho no room >&2\nexit 3\n")
	_, err := TrustInstall(ctx, options)
	if err == nil || !strings.Contains(err.Error(), "update-ca-trust extract: exit status 3: no room") {
		t.Errorf("a failing update command: %v", err)
	}
	if _, err := TrustRemove(ctx, options); err == nil || len(anchorsIn(t, tests[1].anchors)) != 1 {
		t.Errorf("a removal that failed cannot be tried again: %v", err)
	}
	writeExecutable(t, "/usr/bin/update-ca-trust", "#!/bin/sh\n")
	if _, err := TrustInstall(ctx, options); err == nil || !strings.Contains(err.Error(), "reported no error, but") {
		t.Errorf("an update command that does nothing: %v", err)
	}
	if err := os.WriteFile(tests[1].bundle, mustRead(t, RootFile(options.Directory)), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = TrustRemove(ctx, options)
	if err == nil || !strings.Contains(err.Error(), "true, want false") || len(anchorsIn(t, tests[1].anchors)) != 1 {
		t.Errorf("a CA that is still trusted was said to be gone: %v", err)
	}
}

func TestTrustWithoutStoreOrCA(t *testing.T) {
	options := TrustOptions{Directory: t.TempDir(), Root: t.TempDir()}
	_, err := TrustInstall(context.Background(), options)
	if err == nil || !strings.Contains(err.Error(), "install the package ca-certificates") {
		t.Errorf("without a store: %v", err)
	}
	options.Root = "/" // the missing CA stops it before anything is touched
	_, err = TrustInstall(context.Background(), options)
	if err == nil || !strings.Contains(err.Error(), "no local CA yet") {
		t.Errorf("without a CA: %v", err)
	}
}

func writeExecutable(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func anchorsIn(t *testing.T, directory string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(directory, anchorPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// mountOverlay makes a writable view of the machine that ends with the mount namespace, and has its own /tmp.
func mountOverlay(t *testing.T) string {
	t.Helper()
	base := t.TempDir()
	root := filepath.Join(base, "root")
	mount := func(source, target, kind string, flags uintptr, data string) {
		t.Helper()
		if err := unix.Mount(source, target, kind, flags, data); err != nil {
			t.Fatalf("mounting %s on %s: %v", kind, target, err)
		}
		t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	mount("tmpfs", base, "tmpfs", 0, "")
	for _, name := range []string{"root", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount("overlay", root, "overlay", 0, fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", base, base))
	mount("tmpfs", filepath.Join(root, "tmp"), "tmpfs", 0, "")
	mount("/dev", filepath.Join(root, "dev"), "", unix.MS_BIND|unix.MS_REC, "")
	mount("/proc", filepath.Join(root, "proc"), "", unix.MS_BIND|unix.MS_REC, "")
	return root
}

// serveTLS answers HTTPS with the certificates of a Manager on directory, until the test ends.
func serveTLS(t *testing.T, directory string) string {
	t.Helper()
	m := open(t, Options{Directory: directory})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{TLSConfig: m.TLSConfig().Clone(), Handler: http.NotFoundHandler(), ErrorLog: log.New(io.Discard, "", 0)}
	go server.ServeTLS(listener, "", "")
	t.Cleanup(func() { server.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return "localhost:" + port
}

// expectTrust asks programs that read the system's store below root, by the host's name and by its address.
func expectTrust(t *testing.T, root, address string, trusted bool) {
	t.Helper()
	_, port, _ := net.SplitHostPort(address)
	python := "import ssl, socket\nconnection = socket.create_connection(('127.0.0.1', " + port + "))\n" +
		"ssl.create_default_context().wrap_socket(connection, server_hostname='localhost')"
	commands := [][]string{
		{"curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "https://" + address},
		{"curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "https://127.0.0.1:" + port},
		{"openssl", "s_client", "-verify_return_error", "-verify_hostname", "localhost", "-connect", address},
		{"python3", "-c", python},
	}
	for _, arguments := range commands {
		command := exec.Command("chroot", append([]string{root}, arguments...)...)
		command.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
		output, err := command.CombinedOutput()
		if (err == nil) != trusted {
			t.Errorf("trusted %v, want %v: %s: %v\n%s", err == nil, trusted, arguments[0], err, output)
		}
	}
}

// digestTree digests names, modes, links and contents below the paths.
func digestTree(t *testing.T, paths ...string) string {
	t.Helper()
	h := sha256.New()
	for _, path := range paths {
		err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			var content []byte
			switch entry.Type() {
			case 0:
				content, err = os.ReadFile(name)
			case fs.ModeSymlink:
				var target string
				target, err = os.Readlink(name)
				content = []byte(target)
			}
			fmt.Fprintf(h, "%s %s %x\n", strings.TrimPrefix(name, path), entry.Type(), sha256.Sum256(content))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func linkNames(t *testing.T, directory string) string {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return strings.Join(names, "\n")
}
