package systemd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Credential returns the path of a credential that the unit loads
// (LoadCredential=, LoadCredentialEncrypted=, SetCredential=). The file is
// readable by this service alone. It is an error when the process was given no
// credentials, or not this one (wrapping fs.ErrNotExist).
func Credential(name string) (path string, err error) {
	if checkName(name) != nil || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return "", fmt.Errorf("finding credential: %q is not a credential name", name)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return "", fmt.Errorf("finding credential %q: %w", name, ErrNoCredentials)
	}
	path = filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("finding credential %q: %w", name, err)
	}
	return path, nil
}

// ErrNoCredentials means that no service manager gave this process credentials,
// as when it was started by hand.
var ErrNoCredentials = errors.New("the service manager passed no credentials to this process")
