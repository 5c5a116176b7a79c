package trust_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/lab"
)

const (
	sender    = "app@example.org"
	recipient = "you@example.com"
	siteUID   = 33 // www-data on Debian: a web site
)

// target is where a client is told to send its mail to.
type target struct {
	host     string // a name, or an address: then no server name is sent
	port     string
	implicit bool
}

func (t target) String() string { return t.host + " " + t.port }

// way is how the clients of testdata are told.
func (t target) way() string {
	if t.implicit {
		return "implicit"
	}
	return "starttls"
}

// client is a program that sends mail and verifies certificates.
type client struct {
	name    string
	command func(target) []string
	env     []string       // that the documents tell to set
	input   string         // for its standard input
	failure *regexp.Regexp // how it says that it does not trust a certificate
	// byName keeps it from addresses, which it does not check.
	byName bool
}

// clients are those that people have.
func (b *bed) clients(t testing.TB) []client {
	t.Helper()
	message := "From: " + sender + "\nTo: " + recipient + "\nSubject: a client\n\nhello\n"
	letter := b.write(t, "letter.eml", strings.ReplaceAll(message, "\n", "\r\n")) // curl and swaks send it as it is
	script := func(program, name string, options ...string) func(target) []string {
		path := b.write(t, name, readFile(t, filepath.Join("testdata", name)))
		return func(to target) []string {
			return append(append([]string{program}, options...), path, to.host, to.port, to.way())
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := b.copyProgram(t, self)
	pkix := regexp.MustCompile(`SSLHandshakeException.*PKIX path building failed`)
	return []client{
		{name: "curl", command: func(to target) []string { return curl(to, letter) }, failure: regexp.MustCompile(`curl: \(60\) SSL certificate problem`)},
		{name: "swaks", command: func(to target) []string { return swaks(to, letter) }, failure: regexp.MustCompile(`certificate verify failed`), byName: true},
		{name: "msmtp", command: b.msmtp(t), input: message, failure: regexp.MustCompile(`certificate issuer is unknown|certificate is not trusted`)},
		{name: "Python", command: script("/usr/bin/python3", "client.py"), failure: regexp.MustCompile(`CERTIFICATE_VERIFY_FAILED`)},
		{name: "PHP", command: script("php", "client.php"), failure: regexp.MustCompile(`certificate verify failed`)},
		{
			name: "Node", command: script("node", "client.js"), env: []string{b.advised(t, "NODE_EXTRA_CA_CERTS=")},
			failure: regexp.MustCompile(`^(Warning: Ignoring extra certs.*\n)?(\(Use.*\n)?UNABLE_TO_(VERIFY_LEAF_SIGNATURE|GET_ISSUER_CERT)|SELF_SIGNED_CERT_IN_CHAIN`),
		},
		{name: "Go", command: func(to target) []string { return []string{program, to.host, to.port, to.way()} }, env: []string{roleVariable + "=" + roleClient}, failure: regexp.MustCompile(`certificate signed by unknown authority`)},
		{name: "Java", command: b.java(t, "/usr/bin"), failure: pkix},
		{name: "Java with its own store", command: b.java(t, b.ownJDK(t)), failure: pkix},
	}
}

func curl(to target, letter string) []string {
	scheme, host := "smtp", to.host
	if to.implicit {
		scheme = "smtps"
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return []string{"curl", "-sS", "--max-time", "20", "--ssl-reqd", "--mail-from", sender, "--mail-rcpt", recipient,
		"--upload-file", letter, scheme + "://" + host + ":" + to.port}
}

func swaks(to target, letter string) []string {
	mode := "--tls"
	if to.implicit {
		mode = "--tls-on-connect"
	}
	return []string{"swaks", "--server", to.host, "--port", to.port, mode, "--tls-verify", "--from", sender, "--to", recipient,
		"--ehlo", "client.example", "--data", "@" + letter, "--timeout", "20"}
}

// msmtp trusts the system's store unless it is told otherwise.
func (b *bed) msmtp(t testing.TB) func(target) []string {
	t.Helper()
	none := b.write(t, "msmtprc", "")
	return func(to target) []string {
		starttls := "on"
		if to.implicit {
			starttls = "off"
		}
		return []string{"msmtp", "--file=" + none, "--host=" + to.host, "--port=" + to.port, "--tls=on", "--tls-starttls=" + starttls,
			"--from=" + sender, "--timeout=20", "--", recipient}
	}
}

// java is a class that a JDK's java runs. It was compiled with the first's.
func (b *bed) java(t testing.TB, bin string) func(target) []string {
	t.Helper()
	if _, err := os.Stat(b.path("Client.class")); errors.Is(err, os.ErrNotExist) {
		if out, err := exec.Command("javac", "-d", b.dir, "testdata/Client.java").CombinedOutput(); err != nil {
			t.Fatalf("compiling: %v\n%s", err, out)
		}
	}
	return func(to target) []string {
		return []string{filepath.Join(bin, "java"), "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp", b.dir, "Client", to.host, to.port, to.way()}
	}
}

// ownJDK makes a JDK with a keystore that no distribution keeps up, as those
// that are unpacked by hand have it, and returns where its programs lie.
func (b *bed) ownJDK(t testing.TB) string {
	t.Helper()
	program, err := filepath.EvalSymlinks("/usr/bin/java")
	if err != nil {
		t.Fatal(err)
	}
	home := "/opt/smtpwall-jdk-" + b.name
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := overlay(filepath.Dir(filepath.Dir(program)), home, "jdk-"+b.name); err != nil {
		t.Fatal(err)
	}
	keystore := filepath.Join(home, "lib/security/cacerts")
	content := readFile(t, keystore)
	if err := errors.Join(os.Remove(keystore), os.WriteFile(keystore, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(home, "bin")
}

// copyProgram puts this program where the site may run it.
func (b *bed) copyProgram(t testing.TB, path string) string {
	t.Helper()
	copied := b.path("client")
	if err := os.WriteFile(copied, []byte(readFile(t, path)), 0o755); err != nil {
		t.Fatal(err)
	}
	return copied
}

// send runs a client as a web site, with nothing of root's environment.
func (b *bed) send(t testing.TB, c client, to target) (said string, err error) {
	t.Helper()
	words := c.command(to)
	cmd := lab.AsUser(b.Host.Command(t.Context(), words[0], words[1:]...), siteUID, siteUID)
	cmd.Env = append([]string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/nonexistent", "LANG=C.UTF-8"}, c.env...)
	cmd.Stdin = strings.NewReader(c.input)
	output, err := cmd.CombinedOutput()
	return string(output), err
}

// goClient sends a message with net/smtp. Arguments: host, port, starttls or
// implicit.
func goClient(args []string) int {
	if err := goSend(args[0], args[1], args[2] == "implicit"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func goSend(host, port string, implicit bool) error {
	address, config := net.JoinHostPort(host, port), &tls.Config{ServerName: host}
	if !implicit {
		// It insists on STARTTLS where the server offers it, and ours does.
		return smtp.SendMail(address, nil, sender, []string{recipient}, []byte("Subject: go\r\n\r\nhello\r\n"))
	}
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		return err
	}
	client, err := smtp.NewClient(conn, host)
	if err != nil {
		return err
	}
	if err := errors.Join(client.Mail(sender), client.Rcpt(recipient)); err != nil {
		return err
	}
	data, err := client.Data()
	if err != nil {
		return err
	}
	_, err = data.Write([]byte("Subject: go\r\n\r\nhello\r\n"))
	return errors.Join(err, data.Close(), client.Quit())
}
