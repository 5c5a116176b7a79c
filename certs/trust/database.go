package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// databaseFile is in every NSS database of the kind that is in use since 2013.
const databaseFile = "cert9.db"

// profile is where programs keep an NSS database in a home.
type profile struct {
	directory string
	many      bool // the databases are one below it, one for each profile
	bundled   bool // its programs bring their own NSS, which does not read the system's store
}

func profiles() []profile {
	return []profile{
		{directory: ".pki/nssdb"},             // Chromium, Evolution
		{directory: ".local/share/pki/nssdb"}, // newer Chromium
		{directory: ".mozilla/firefox", many: true},
		{directory: ".config/mozilla/firefox", many: true},
		{directory: ".thunderbird", many: true},
		{directory: "snap/chromium/current/.pki/nssdb", bundled: true},
		{directory: "snap/firefox/common/.mozilla/firefox", many: true, bundled: true},
		{directory: "snap/thunderbird/common/.thunderbird", many: true, bundled: true},
		{directory: ".var/app/org.chromium.Chromium/.pki/nssdb", bundled: true},
		{directory: ".var/app/org.mozilla.firefox/.mozilla/firefox", many: true, bundled: true},
		{directory: ".var/app/org.mozilla.Thunderbird/.thunderbird", many: true, bundled: true},
	}
}

const (
	systemDatabase = "/etc/pki/nssdb"
	// maxProfiles bounds what one user can have us look at.
	maxProfiles = 64
	// maxDatabase bounds what is read of one file.
	maxDatabase = 256 << 20
)

// database is an NSS database.
type database struct {
	directory string
	owner     account // with whose rights it is read and written
	user      string  // empty for the system's
	reads     bool    // it belongs to programs that read the system's store too
}

// findDatabases looks for the system's database and for those of users.
func findDatabases(accounts []account, system *system) []database {
	shares := system != nil && system.sharesNSS
	var found []database
	if isDatabase(systemDatabase) {
		found = append(found, database{directory: systemDatabase, owner: account{name: "root", home: "/root"}, reads: shares})
	}
	for _, a := range accounts {
		_ = a.do(func() error { // a home that we may not enter has nothing for us
			for _, p := range profiles() {
				for _, directory := range p.databases(a.home) {
					found = append(found, database{directory: directory, owner: a, user: a.name, reads: shares && !p.bundled})
				}
			}
			return nil
		})
	}
	return found
}

// databases are those of the profile in a home.
func (p profile) databases(home string) []string {
	directory := filepath.Join(home, p.directory)
	if !p.many {
		if isDatabase(directory) {
			return []string{directory}
		}
		return nil
	}
	opened, err := os.Open(directory)
	if err != nil {
		return nil
	}
	defer func() { _ = opened.Close() }()
	names, _ := opened.Readdirnames(maxProfiles)
	slices.Sort(names)
	var found []string
	for _, name := range names {
		// The path is printed for root to read.
		if strings.Map(printable, name) == name && isDatabase(filepath.Join(directory, name)) {
			found = append(found, filepath.Join(directory, name))
		}
	}
	return found
}

func isDatabase(directory string) bool {
	info, err := os.Lstat(filepath.Join(directory, databaseFile))
	return err == nil && info.Mode().IsRegular()
}

func (d database) place() Place { return Place{Store: "NSS", Path: d.directory, User: d.user} }

// held lists our CAs. certutil is asked only where the file has our words, so that nothing is run for the users whose
// database has none; without certutil the words alone are an error.
func (d database) held(ctx context.Context) ([]entry, error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	mentioned := false
	err := d.owner.do(func() (err error) {
		mentioned, err = d.mentionsUs()
		return err
	})
	if err != nil || !mentioned {
		return nil, err
	}
	if commandPath("certutil") == "" {
		return nil, errors.New("it holds a local CA, and certutil is not installed (libnss3-tools or nss-tools)")
	}
	return d.list(ctx)
}

// usable returns an error that says why the database is left alone.
func (d database) usable() error {
	if d.owner.uid != 0 {
		return nil // its user can do there what certutil does
	}
	if _, err := keptByRoot(d.directory); err != nil {
		return errLeft(fmt.Sprintf("left alone, since root must not write where others can: %v", err))
	}
	return nil
}

// mentionsUs looks for the name that all our CAs have in their subject.
func (d database) mentionsUs() (bool, error) {
	file, err := os.OpenFile(filepath.Join(d.directory, databaseFile), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return false, errors.Join(err, fs.ErrInvalid)
	}
	return contains(io.LimitReader(file, maxDatabase), []byte(commonNamePrefix))
}

// contains looks for words in what a reader gives, wherever its pieces end.
func contains(r io.Reader, words []byte) (bool, error) {
	buffer := make([]byte, 64<<10)
	kept := 0
	for {
		n, err := r.Read(buffer[kept:])
		if bytes.Contains(buffer[:kept+n], words) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		tail := min(kept+n, len(words)-1)
		copy(buffer, buffer[kept+n-tail:kept+n])
		kept = tail
	}
}

// list asks certutil.
func (d database) list(ctx context.Context) ([]entry, error) {
	output, err := d.certutil("-L").run(ctx)
	if err != nil {
		return nil, err
	}
	var found []entry
	for line := range strings.Lines(string(output)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !isName(fields[0]) {
			continue
		}
		text, err := d.certutil("-L", "-a", "-n", fields[0]).run(ctx)
		if err != nil {
			return nil, err
		}
		// Trust is printed as SSL,S/MIME,JAR; C is a CA for servers' certificates.
		e := entry{name: fields[0], trusted: strings.HasPrefix(fields[len(fields)-1], "C,")}
		if certificate, err := parse(text); err == nil {
			if !ours(certificate) {
				continue
			}
			e.der = certificate.Raw
		}
		found = append(found, e)
	}
	return found, nil
}

func (d database) certutil(verb string, args ...string) command {
	args = append([]string{verb, "-d", "sql:" + d.directory}, args...)
	return command{path: commandPath("certutil"), args: args, as: &d.owner}
}

// change runs certutil as the user whose database it is.
func (d database) change(ctx context.Context, h *hand, add *authority, drop []entry) error {
	if add != nil && d.reads {
		if len(drop) == 0 {
			return errLeft("needs no entry: its programs read the system's store")
		}
		add = nil
	}
	if commandPath("certutil") == "" {
		return errLeft("left alone: certutil is not installed (libnss3-tools or nss-tools); its programs will not trust the local CA")
	}
	for _, e := range drop {
		if err := h.run(ctx, d.certutil("-D", "-n", e.name)); err != nil {
			return err
		}
	}
	if add != nil {
		if err := d.add(ctx, h, *add); err != nil {
			return err
		}
	}
	if h.dry {
		return nil
	}
	return d.check(ctx, add)
}

// add puts a CA in. Where a password is set, certutil cannot make it trusted, but leaves it there.
func (d database) add(ctx context.Context, h *hand, a authority) error {
	c := d.certutil("-A", "-t", "C,,", "-n", a.name)
	c.input = a.pem
	err := h.run(ctx, c)
	if err == nil {
		return nil
	}
	_ = h.run(ctx, d.certutil("-D", "-n", a.name))
	if strings.Contains(err.Error(), "password") {
		return fmt.Errorf("it has a password of its own; as %s, with FILE the local CA: certutil -A -d sql:%s -t C,, -n %s -i FILE",
			d.owner.name, d.directory, a.name)
	}
	return err
}

func (d database) check(ctx context.Context, add *authority) error {
	held, err := d.list(ctx)
	if err != nil {
		return fmt.Errorf("checking what certutil did: %w", err)
	}
	if add == nil && len(held) > 0 || add != nil && (len(held) != 1 || !held[0].is(*add)) {
		return fmt.Errorf("certutil reported no error, but the database holds %q", names(held))
	}
	return nil
}
