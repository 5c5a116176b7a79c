package limit

import "errors"

// ErrDamaged is what Load gives, wrapped, when what it read cannot be what was
// saved. Save may give it too.
var ErrDamaged = errors.New("store is damaged")

// Store keeps what a Limiter counted. Keys are printable for the most part, and
// values are opaque.
type Store interface {
	// Load gives every record, in any order. Where it fails with ErrDamaged, those
	// that it gave before are each as they were saved once, but others may be missing.
	Load(func(key string, value []byte) error) error

	// Save keeps all of these or none, durably; a nil value deletes.
	Save(map[string][]byte) error

	Close() error
}

// replacer is a Store that can begin anew, keeping what it had for a person to look at.
type replacer interface {
	// SetAside empties the store and tells where what it held is now.
	SetAside() (string, error)
}
