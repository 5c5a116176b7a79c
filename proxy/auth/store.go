package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-sasl"
)

// maxWait is how long a check waits for its turn to compute a hash.
const maxWait = 10 * time.Second

// defaultConcurrency is two: with the parameters of HashPassword that is 38 MiB.
const defaultConcurrency = 2

// Options of a Store. The zero value is ready to use.
type Options struct {
	Concurrency int    // hashes computed at a time; 0 is 2
	Previous    *Store // accounts that are the same there keep their remembered check; for a reload
}

// Store checks passwords and certificates against the accounts that it was made
// from.
type Store struct {
	entries      map[string]*entry
	certificates map[Fingerprint]*entry
	decoys       []hash        // one for each entry with a password: what an unknown name is checked against
	turns        chan struct{} // one element for each hash being computed
	key          []byte        // of the digests of verified pairs; random, never stored
	secret       []byte        // decides what unknown names look like
	scram        *scramLookup  // nil when no account has SCRAM keys
}

// New makes a Store, and reports all that is wrong with the accounts. No part of
// a hash is in the error.
func New(accounts []Account, options Options) (*Store, error) {
	s := &Store{
		entries:      make(map[string]*entry, len(accounts)),
		certificates: map[Fingerprint]*entry{},
		turns:        make(chan struct{}, cmp.Or(max(0, options.Concurrency), defaultConcurrency)),
		key:          randomOctets(sha256.Size),
	}
	var errs []error
	for i, account := range accounts {
		if err := s.add(account); err != nil {
			errs = append(errs, fmt.Errorf("account %d (%q): %w", i+1, account.Name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s.inherit(options.Previous)
	s.secret = secretOf(accounts)
	s.scram = newSCRAMLookup(s.entries, s.secret)
	return s, nil
}

// Login is how a client logged in.
type Login struct {
	Account     string      // as Exchange.Identity gives it
	Certificate Fingerprint // by EXTERNAL; zero: by a password
}

// Keeps tells whether who logged in with previous could do so with s: the
// account is there and has that certificate, or has the password that it had. A
// nil Store has no accounts.
func (s *Store) Keeps(previous *Store, login Login) bool {
	switch {
	case s == nil || previous == nil:
		return false
	case login.Certificate != Fingerprint{}:
		owner := s.certificates[login.Certificate]
		return owner != nil && owner.name == login.Account
	}
	return s.entries[login.Account].samePassword(previous.entries[login.Account])
}

func (s *Store) add(account Account) error {
	e, err := newEntry(account)
	if err != nil {
		return err
	}
	if s.entries[e.name] != nil {
		return errors.New("another account has this name")
	}
	s.entries[e.name] = e
	if e.hash != nil {
		s.decoys = append(s.decoys, e.hash.decoy())
	}
	return s.addCertificates(e)
}

// addCertificates lets the account be found by them. One that two accounts had
// would leave open who logs in.
func (s *Store) addCertificates(e *entry) error {
	for _, fingerprint := range e.from.Certificates {
		if other := s.certificates[fingerprint]; other != nil && other != e {
			return fmt.Errorf("account %q has the certificate %s too", other.name, Fingerprint(fingerprint))
		}
		s.certificates[fingerprint] = e
	}
	return nil
}

// inherit shares what an earlier Store remembers of unchanged accounts.
func (s *Store) inherit(previous *Store) {
	if previous == nil {
		return
	}
	s.key = previous.key
	for name, e := range s.entries {
		if old := previous.entries[name]; e.samePassword(old) {
			e.verified = old.verified
		}
	}
}

// Mechanisms lists what AUTH may offer to a client without a certificate; empty
// where no account has a password.
func (s *Store) Mechanisms() []string {
	if len(s.decoys) == 0 {
		return nil
	}
	names := []string{sasl.Plain, sasl.Login}
	if s.scram != nil {
		names = append(names, scramName)
	}
	return names
}

// Verify checks a password. It returns nil, ErrCredentials, or ErrTemporary
// when too many hashes are being computed for too long or ctx ends.
//
// A pair that was right before is recognised by its digest. Any other costs one
// hash, whether the name exists or not; for a name that does not, that is a
// decoy with the parameters of one of the accounts, the same one for the same
// name each time, so that unknown names spread over the costs as known ones do.
// An account without a password is as good as unknown.
func (s *Store) Verify(ctx context.Context, name string, password []byte) error {
	if len(s.decoys) == 0 || len(name) > maxName || len(password) > maxPassword {
		return ErrCredentials
	}
	name, password = string(prepare([]byte(name))), prepare(password)
	pair := s.digest(name, password)
	e := s.entries[name]
	if e.remembers(pair) {
		return nil
	}
	if err := s.wait(ctx); err != nil {
		return err
	}
	defer s.done()
	if e.remembers(pair) { // found right by another session while we waited
		return nil
	}
	h, known := s.decoys[choose(s.secret, name, len(s.decoys))], e != nil && e.hash != nil
	if known {
		h = e.hash
	}
	if matches := h.matches(password); !known || !matches {
		return ErrCredentials
	}
	e.verified.Store(&pair)
	return nil
}

// wait takes a turn to compute a hash; done gives it back.
func (s *Store) wait(ctx context.Context) error {
	select {
	case s.turns <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case s.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
	case <-timer.C:
	}
	return ErrTemporary
}

func (s *Store) done() { <-s.turns }

// digest names a pair without telling it. The length keeps name and password
// apart.
func (s *Store) digest(name string, password []byte) digest {
	length := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	return digest(mac(s.key, length, []byte(name), password))
}

// remembers tells whether the pair is the one that was found right. Comparing
// digests in variable time tells nothing: their key is secret. The answer for a
// nil entry is no.
func (e *entry) remembers(pair digest) bool {
	if e == nil {
		return false
	}
	known := e.verified.Load()
	return known != nil && *known == pair
}

// secretOf derives a key from what only the host knows, so that it is the same
// after a restart: a name whose cost or salt changed then would not be real.
func secretOf(accounts []Account) []byte {
	h := sha256.New()
	for _, a := range accounts {
		fmt.Fprintf(h, "%q %q %q\n", a.Name, a.Password, a.SCRAM)
	}
	return h.Sum(nil)
}

// choose returns a number below n, always the same for a name.
func choose(secret []byte, name string, n int) int {
	return int(binary.BigEndian.Uint32(mac(secret, []byte("choice"), []byte(name))) % uint32(n))
}
