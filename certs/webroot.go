package certs

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// webRoot answers http-01 by files that a web server shows. The directory may belong to somebody who means us harm:
// nothing outside of it is read, written or removed, whatever links it has.
type webRoot string

// tokenForm is base64url (RFC 8555, section 8.3). The CA chooses the token, and it becomes a file's name.
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)

// Present makes the token's file, whole from the first moment, for a web server that is another user.
func (w webRoot) Present(challenge acme.Challenge) error {
	return w.within(challenge.Token, func(root *os.Root, file string) error {
		temporary := path.Join(path.Dir(file), temporaryPrefix+rand.Text())
		err := createReadable(root, temporary, challenge.KeyAuthorization)
		if err == nil {
			err = root.Rename(temporary, file)
		}
		if err != nil {
			_ = root.Remove(temporary)
		}
		return err
	})
}

// CleanUp removes the file. The directories stay.
func (w webRoot) CleanUp(challenge acme.Challenge) error {
	return w.within(challenge.Token, func(root *os.Root, file string) error {
		if err := root.Remove(file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// check makes a file and removes it, so that what would fail does before a CA is asked.
func (w webRoot) check() error {
	challenge := acme.Challenge{Token: temporaryPrefix[1:] + rand.Text()}
	if err := w.Present(challenge); err != nil {
		return err
	}
	return w.CleanUp(challenge)
}

// temporaryPrefix begins the names of files that are there for moments and that a kill leaves; those of check lack the
// dot, as tokens have none.
const temporaryPrefix = ".smtpwall-"

const (
	// maxSwept is how many files sweep looks at: whoever owns the web root may put any number there.
	maxSwept = 1000
	// sweepAge keeps sweep from what another process is at.
	sweepAge = time.Minute
)

// sweep removes what a killed process left of its temporary files.
func (w webRoot) sweep() error {
	return w.in(func(root *os.Root, directory string) error {
		opened, err := openDirectory(root, directory)
		if err != nil {
			return err
		}
		defer opened.Close()
		names, err := opened.Readdirnames(maxSwept)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		errs := []error{err}
		for _, name := range names {
			if !strings.HasPrefix(name, temporaryPrefix) && !strings.HasPrefix("."+name, temporaryPrefix) {
				continue
			}
			file := path.Join(directory, name)
			if info, err := root.Lstat(file); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > sweepAge {
				errs = append(errs, root.Remove(file))
			}
		}
		return errors.Join(errs...)
	})
}

func (w webRoot) within(token string, do func(root *os.Root, file string) error) error {
	if !tokenForm.MatchString(token) {
		return fmt.Errorf("the CA's token %q is not base64url", token)
	}
	return w.in(func(root *os.Root, directory string) error { return do(root, path.Join(directory, token)) })
}

// in makes the directory for challenges unless it is there. A pipe, for whose other end one waits, is not opened
// instead: a slash at the end has the kernel take nothing but directories, as os.Root does below.
func (w webRoot) in(do func(root *os.Root, directory string) error) error {
	root, err := os.OpenRoot(strings.TrimRight(string(w), "/") + "/")
	if err != nil {
		var place *fs.PathError
		if errors.As(err, &place) {
			place.Path = string(w) // as it was configured
		}
		return fmt.Errorf("opening the web root: %w", err)
	}
	defer root.Close()
	directory := strings.Trim(challengePath, "/")
	err = makeReadable(root, path.Dir(directory))
	if err == nil {
		err = makeReadable(root, directory)
	}
	if err == nil {
		err = do(root, directory)
	}
	if err != nil {
		return fmt.Errorf("in the web root %s: %w", w, err)
	}
	return nil
}

// makeReadable makes a directory unless it is there. The umask is not the web server's business.
func makeReadable(root *os.Root, directory string) error {
	if err := root.Mkdir(directory, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	made, err := openDirectory(root, directory)
	if err != nil {
		return err
	}
	defer made.Close()
	return made.Chmod(0o755)
}

// openDirectory waits for nobody: what was a directory a moment ago may be a pipe now.
func openDirectory(root *os.Root, directory string) (*os.File, error) {
	return root.OpenFile(directory, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
}

func createReadable(root *os.Root, file, content string) error {
	f, err := root.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if _, err := f.WriteString(content); err != nil {
		return err
	}
	return f.Close()
}
