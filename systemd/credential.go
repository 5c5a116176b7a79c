package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// folderID is the ID under which smtpwall.service loads the whole folder of
// credentials. The manager names each one ID_FILE then (systemd.exec(5)).
const folderID = "smtpwall"

// ErrNoCredentials means that no service manager gave this process credentials,
// as when it was started by hand.
var ErrNoCredentials = errors.New("the service manager passed no credentials to this process")

// Credential returns the path of a credential that the unit loads, by a
// directive of its own (LoadCredential=NAME:…, LoadCredentialEncrypted=,
// SetCredential=) or as the file of that name in /etc/smtpwall/credentials. The
// file is readable by this service alone. It is an error when the process was
// given no credentials, or not this one (wrapping fs.ErrNotExist).
func Credential(name string) (path string, err error) {
	if checkName(name) != nil || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return "", fmt.Errorf("finding credential: %q is not a credential name", name)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return "", fmt.Errorf("finding credential %q: %w", name, ErrNoCredentials)
	}
	path = filepath.Join(dir, name)
	_, err = os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		path = filepath.Join(dir, folderID+"_"+name)
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", fmt.Errorf("finding credential %q: %w", name, err)
	}
	return path, nil
}
