package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// maxSecret bounds a secret, in bytes. RFC 4616 section 2 expects 255 to be
// enough.
const maxSecret = 4096

const secretForms = `{ credential = "name" }, { file = "/path" } or { env = "NAME" }`

// secretBinding reads a secret from where the file says that it is.
type secretBinding struct{ into *Secret }

func (b secretBinding) decode(d *decoder, at place, v *value) {
	if v.kind == kindString {
		d.problem(v.line, at.key, flaw{"a secret must not stand in the file itself",
			fmt.Sprintf("put it into the file /etc/smtpwall/credentials/NAME and write %s = { credential = \"NAME\" }", lastPart(at.key))})
		return
	}
	if v.kind != kindTable || len(v.members) != 1 {
		d.problem(v.line, at.key, flaw{"must name one source of the secret", "write one of " + secretForms})
		return
	}
	form := v.members[0]
	read, known := map[string]func(string) (string, error){
		"credential": d.options.readCredential, "file": readSecretFile, "env": readVariable,
	}[form.name]
	if !known {
		hint := meant(form.name, []string{"credential", "file", "env"}, "write one of "+secretForms)
		d.problem(form.line, joinKey(at.key, form.name), flaw{"unknown source of a secret", hint})
		return
	}
	if form.value.kind != kindString || form.value.text == "" {
		d.problem(form.line, joinKey(at.key, form.name), flaw{"must be a name between quotes",
			"write one of " + secretForms})
		return
	}
	b.read(d, place{joinKey(at.key, form.name), form.line}, read, form.value.text)
}

// read stores the secret that name stands for.
func (b secretBinding) read(d *decoder, at place, read func(string) (string, error), name string) {
	if d.options.SkipSecrets {
		return
	}
	if d.options.OutsideService && lastPart(at.key) == "credential" && os.Getenv("CREDENTIALS_DIRECTORY") == "" {
		d.doubt(at, flaw{fmt.Sprintf("credential %q was not checked: systemd hands it to the service alone", name), ""})
		return
	}
	secret, err := read(name)
	if err != nil {
		d.wrong(at, asFlaw(err))
		return
	}
	*b.into = NewSecret(secret)
}

func (b secretBinding) describe() string { return secretForms }

func (b secretBinding) show() string { return "" }

// readCredential reads a credential that systemd passed.
func (o Options) readCredential(name string) (string, error) {
	if o.Credential == nil {
		return "", flaw{"this process can have no credentials", "use { file = … }"}
	}
	hint := fmt.Sprintf("put it into /etc/smtpwall/credentials/%s and restart the service, or use { file = … }", name)
	path, err := o.Credential(name)
	if err != nil {
		return "", flaw{err.Error(), hint}
	}
	file, err := os.Open(path)
	if err != nil {
		return "", flaw{fmt.Sprintf("credential %q: %v", name, bare(err)), hint}
	}
	defer func() { _ = file.Close() }()
	return takeSecret(file)
}

// readVariable reads an environment variable.
func readVariable(name string) (string, error) {
	secret := os.Getenv(name)
	if secret == "" {
		return "", flaw{fmt.Sprintf("environment variable %s is not set", name),
			"set it for the process, or use { file = … }"}
	}
	return cleanSecret(secret)
}

// readSecretFile reads a file that nobody else may read or write. It must not
// be a symbolic link: who may change the link chooses the password, and its
// permissions say nothing about that.
func readSecretFile(path string) (string, error) {
	if err := checkPath(path); err != nil {
		return "", err
	}
	// O_NONBLOCK: opening a FIFO must not wait for its writer.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ELOOP):
		return "", flaw{path + " is a symbolic link", "name the file that it points to"}
	case errors.Is(err, fs.ErrPermission):
		return "", flaw{path + " cannot be read: permission denied", "chgrp smtpwall " + path + " && chmod 640 " + path}
	case err != nil:
		return "", flaw{fmt.Sprintf("%s cannot be read: %v", path, bare(err)), ""}
	}
	defer func() { _ = file.Close() }()
	if err := checkCustody(file, path); err != nil {
		return "", err
	}
	return takeSecret(file)
}

// checkCustody refuses a file that somebody other than root and ourselves may
// read or change.
func checkCustody(file *os.File, path string) error {
	info, err := file.Stat()
	if err != nil {
		return flaw{fmt.Sprintf("%s cannot be read: %v", path, bare(err)), ""}
	}
	if !info.Mode().IsRegular() {
		return flaw{path + " is not a regular file", "name a file that holds the secret and nothing else"}
	}
	mode := info.Mode().Perm()
	switch {
	case mode&0o004 != 0:
		return flaw{fmt.Sprintf("%s can be read by everybody (mode %04o)", path, mode), "chmod o-rwx " + path}
	case mode&0o022 != 0:
		return flaw{fmt.Sprintf("%s can be changed by others than its owner (mode %04o)", path, mode),
			"chmod go-w " + path}
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 && int(owner) != os.Geteuid() {
		return flaw{fmt.Sprintf("%s belongs to uid %d, who can change it", path, owner), "chown root " + path}
	}
	return checkDirectory(filepath.Dir(path))
}

// checkDirectory refuses a directory where anybody may put another file in the
// place of the secret.
func checkDirectory(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return flaw{fmt.Sprintf("%s cannot be read: %v", path, bare(err)), ""}
	}
	if info.Mode().Perm()&0o002 != 0 && info.Mode()&os.ModeSticky == 0 {
		return flaw{fmt.Sprintf("everybody can replace files in the directory %s", path), "chmod o-w " + path}
	}
	return nil
}

// takeSecret reads the secret, within its bound.
func takeSecret(file io.Reader) (string, error) {
	content, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return "", flaw{fmt.Sprintf("the secret cannot be read: %v", bare(err)), ""}
	}
	return cleanSecret(string(content))
}

// cleanSecret cuts the newline that editors leave at the end, and refuses what
// no SASL mechanism can send.
func cleanSecret(secret string) (string, error) {
	secret = strings.TrimSuffix(strings.TrimSuffix(secret, "\n"), "\r")
	switch {
	case secret == "":
		return "", flaw{"the secret is empty", ""}
	case len(secret) > maxSecret:
		return "", flaw{"the secret is longer than " + formatSize(maxSecret),
			"the file holds the secret and nothing else"}
	case strings.ContainsAny(secret, "\x00\r\n"):
		return "", flaw{"the secret is more than one line", "the file holds the secret and nothing else; of what smtpwall account hash prints, that is what stands between the quotes"}
	case !utf8.ValidString(secret):
		return "", flaw{"the secret is not UTF-8", "RFC 4616 asks for it"}
	}
	return secret, nil
}
