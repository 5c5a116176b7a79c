package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testCA is a CA like the local one (package certs makes that), with its certificate in a file.
type testCA struct {
	name        string // in stores
	path        string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

type caOptions struct {
	organization string   // smtpwall unless told
	constraints  []string // domains that it may sign for
}

func newCA(t testing.TB, o caOptions) *testCA {
	t.Helper()
	if o.organization == "" {
		o.organization = organization
	}
	id := make([]byte, 20)
	_, _ = rand.Read(id)
	short := hex.EncodeToString(id[:4])
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(id),
		Subject:      pkix.Name{Organization: []string{o.organization}, CommonName: commonNamePrefix + short},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, SubjectKeyId: id,
		PermittedDNSDomainsCritical: len(o.constraints) > 0, PermittedDNSDomains: o.constraints,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "root.pem")
	writeFile(t, path, string(pemOf("CERTIFICATE", der)), 0o644)
	return &testCA{name: namePrefix + short, path: path, certificate: certificate, key: key}
}

// leaf is a certificate for localhost and its address.
func (ca *testCA) leaf(t testing.TB) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: ca.certificate.NotBefore, NotAfter: ca.certificate.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// serve answers HTTPS with a certificate of the CA, until the test ends.
func (ca *testCA) serve(t *testing.T) (port string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{ca.leaf(t)}},
		Handler:   http.NotFoundHandler(), ErrorLog: log.New(io.Discard, "", 0),
	}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = server.Close() })
	_, port, _ = net.SplitHostPort(listener.Addr().String())
	return port
}

// privateMounts names the test that runs in a child process with a mount namespace of its own.
const privateMounts = "SMTPWALL_TEST_PRIVATE_MOUNTS"

// onOverlay runs the test in a child process, below a copy-on-write view of the machine that nobody else sees.
func onOverlay(t *testing.T, test func(t *testing.T, root string)) {
	t.Helper()
	if os.Getenv(privateMounts) == t.Name() {
		test(t, mountOverlay(t))
		return
	}
	t.Parallel()
	command := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	command.Env = append(os.Environ(), privateMounts+"="+t.Name(), "TMPDIR="+t.TempDir()) // it cannot tidy up from below another root
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	output, err := command.CombinedOutput()
	t.Logf("%s", output)
	if err != nil {
		t.Errorf("in a mount namespace of its own (needs root): %v", err)
	}
}

// asAdministrator is onOverlay with the view as the root directory of the whole process.
func asAdministrator(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	onOverlay(t, func(t *testing.T, root string) {
		enterOverlay(t, root)
		test(t)
	})
}

// forgetJava takes away what the distribution does for Java, which takes seconds each time.
func forgetJava(t *testing.T) {
	t.Helper()
	if err := errors.Join(os.Remove("/etc/ca-certificates/update.d/jks-keystore"), os.Remove(debianJava)); err != nil {
		t.Fatal(err)
	}
}

func enterOverlay(t *testing.T, root string) {
	t.Helper()
	// A test for coverage wants the last.
	if err := errors.Join(unix.Chroot(root), os.Chdir("/"), os.MkdirAll(os.TempDir(), 0o755)); err != nil {
		t.Fatal(err)
	}
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
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
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

// bind shows a directory at another place too, for this mount namespace.
func bind(t *testing.T, source, target string) {
	t.Helper()
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		t.Fatalf("mounting %s on %s: %v", source, target, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
}

// expectTrust asks programs that read the system's store below root, by the server's name and by its address.
func expectTrust(t *testing.T, root, port string, trusted bool) {
	t.Helper()
	python := "import ssl, socket\nconnection = socket.create_connection(('127.0.0.1', " + port + "))\n" +
		"ssl.create_default_context().wrap_socket(connection, server_hostname='localhost')"
	commands := [][]string{
		{"curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "https://localhost:" + port},
		{"curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "https://127.0.0.1:" + port},
		{"openssl", "s_client", "-verify_return_error", "-verify_hostname", "localhost", "-connect", "localhost:" + port},
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

func writeFile(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err = errors.Join(err, os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// mustRun runs a program to its end and returns what it said.
func mustRun(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	output, err := exec.Command(name, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, arguments, err, output)
	}
	return string(output)
}

func anchorsIn(t *testing.T, directory string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(directory, namePrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// at finds one store in a report.
func at(t *testing.T, report Report, path string) Place {
	t.Helper()
	i := slices.IndexFunc(report.Places, func(p Place) bool { return p.Path == path })
	if i < 0 {
		t.Fatalf("the report has no %s: %+v", path, report.Places)
	}
	return report.Places[i]
}
