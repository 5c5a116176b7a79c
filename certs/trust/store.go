package trust

import (
	"bytes"
	"context"
	"slices"
)

// store is one place where programs look for CAs.
type store interface {
	// place says which; Store, Path and User are set.
	place() Place
	// held lists our CAs in it, of this host and of others.
	held(ctx context.Context) ([]entry, error)
	// change puts a CA in, unless add is nil, and takes others out. What is to be dropped is held, what is to be added
	// perhaps too. Unless h is dry it returns an error if the store does not hold afterwards what it should.
	change(ctx context.Context, h *hand, add *authority, drop []entry) error
}

// entry is a CA of ours in a store.
type entry struct {
	name string // file, alias or nickname
	der  []byte // nil if it cannot be read
	// trusted is false for one that lies in the store without any program trusting it.
	trusted bool
}

func (e entry) is(a authority) bool { return e.trusted && bytes.Equal(e.der, a.der) }

// names are the names of the entries, sorted.
func names(entries []entry) []string {
	found := []string{}
	for _, e := range entries {
		found = append(found, e.name)
	}
	slices.Sort(found)
	return found
}
