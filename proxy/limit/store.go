package limit

import (
	"errors"
	"iter"
)

// ErrDamaged is what Load gives, wrapped, when what it read cannot be what was
// saved. Save may give it too.
var ErrDamaged = errors.New("store is damaged")

// errNotOpen is that a replacer must be asked to begin anew, though nothing is damaged.
var errNotOpen = errors.New("store is not open")

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

// replacer is a Store that can begin anew. It is asked to when it was loaded, and when it
// gave ErrDamaged.
type replacer interface {
	// Replace makes these all of its records. What it had is kept for a person to
	// look at if it was damaged, and aside tells where.
	Replace(records iter.Seq2[string, []byte]) (aside string, err error)
}
