package lookup

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// DefaultAddresses and DefaultNamesPerAddress are what Options' zero values mean.
	DefaultAddresses       = 16_384
	DefaultNamesPerAddress = 16

	// A name is kept as long as its TTL says, but not less than minAge: clients keep an address longer than DNS allows,
	// and connect to it again.
	minAge = 10 * time.Minute
	maxAge = 24 * time.Hour
	// again is how far two notes must be apart to count as two. What a program looks up each time that it sends comes
	// back so; a flood does not, unless it lasts.
	again = time.Minute
	// averageNames of an address, over the whole table: most have one or two.
	averageNames = 4
)

// Options are the bounds of a Table.
type Options struct {
	// Addresses that are known at once; 0 is DefaultAddresses. Over all of them, four times as many names are kept.
	Addresses int
	// NamesPerAddress are kept for one address; 0 is DefaultNamesPerAddress, the least is 2.
	NamesPerAddress int
}

// Table is the names of addresses. With the defaults it takes 5 MiB for 16,384 addresses with a usual name each, and
// 20 MiB at most, whatever is noted (TestMemory).
//
// A flood of answers displaces as little as the bounds allow. Of the names of one address, the newer half always stays,
// so that a client finds the name that it has just looked up unless eight others come in between; of the older half the
// one goes first that was noted the fewest times, a minute apart. Of the addresses, those that were noted again after a
// minute, or asked for, give way only when fewer than a quarter of the table is for those noted once.
//
// What remains possible, to whoever on the host keeps noting for many minutes what looks like use: the old names of
// an address, or old addresses, can be pushed out, and strange names can stand beside the right ones. Then
// a client that names no host, and verifies, refuses the certificate until its name is looked up again. Nobody is
// ever led to accept what it should not.
type Table struct {
	addresses, perAddress, maxNames int

	mu     sync.Mutex
	epoch  time.Time                                   // of all moments
	once   *simplelru.LRU[netip.Addr, *namesOfAddress] // noted once
	proven *simplelru.LRU[netip.Addr, *namesOfAddress] // noted again, or asked for
	names  int                                         // in all
}

// moment is a time since a table's epoch.
type moment = time.Duration

// namesOfAddress are newest first.
type namesOfAddress struct {
	since moment
	names []noted
}

// noted is one name of an address.
type noted struct {
	name    string
	until   moment
	counted moment // when times was last raised
	times   uint8
}

// New returns an empty table. It panics on negative bounds.
func New(o Options) *Table {
	if o.Addresses < 0 || o.NamesPerAddress < 0 {
		panic("lookup: negative bounds")
	}
	if o.Addresses == 0 {
		o.Addresses = DefaultAddresses
	}
	if o.NamesPerAddress == 0 {
		o.NamesPerAddress = DefaultNamesPerAddress
	}
	t := &Table{addresses: o.Addresses, perAddress: max(o.NamesPerAddress, 2)}
	t.maxNames = max(averageNames*t.addresses, t.perAddress)
	// One more than fits, so that makeRoom alone decides what goes.
	once, err := simplelru.NewLRU[netip.Addr, *namesOfAddress](o.Addresses+1, nil)
	proven, err2 := simplelru.NewLRU[netip.Addr, *namesOfAddress](o.Addresses+1, nil)
	if err := errors.Join(err, err2); err != nil {
		panic("lookup: " + err.Error()) // only for a size that is not positive
	}
	t.once, t.proven = once, proven
	return t
}

// Note takes one DNS message, without the length that goes before it on TCP. An answer to one question for the
// addresses of a host is noted: the question's name for each address that it leads to, over CNAMEs too, for as long as
// the TTL says, but not less than ten minutes or more than a day. At most 32 addresses are; loopback, unspecified and
// multicast ones are not. Anything else is an error and changes nothing; a good answer without addresses is none.
func (t *Table) Note(message []byte, now time.Time) error {
	var a answer
	if err := parse(message, &a); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.moment(now)
	until := at + min(max(a.ttl, minAge), maxAge)
	var name string
	for _, address := range a.addresses[:a.count] {
		name = t.note(address, &a.name, name, at, until)
	}
	return nil
}

// note notes one pair. The string, made where the name is new to an address, serves the next ones too.
func (t *Table) note(address netip.Addr, name *hostName, text string, at, until moment) string {
	known, ok := t.find(address)
	if !ok {
		known = &namesOfAddress{since: at}
		t.once.Add(address, known)
	} else if at-known.since >= again {
		t.prove(address, known)
	}
	t.names -= len(known.names)
	text = known.note(name, text, at, until)
	known.makeRoom(at, t.perAddress)
	t.names += len(known.names)
	t.makeRoom()
	return text
}

// Names returns the names by which address was looked up, newest first, in lower case and without a dot at the end.
func (t *Table) Names(address netip.Addr, now time.Time) []string {
	address = address.Unmap().WithZone("")
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.find(address)
	if !ok {
		return nil
	}
	t.names -= len(known.names)
	known.expire(t.moment(now))
	t.names += len(known.names)
	if len(known.names) == 0 {
		t.once.Remove(address)
		t.proven.Remove(address)
		return nil
	}
	t.prove(address, known)
	list := make([]string, len(known.names))
	for i, n := range known.names {
		list[i] = n.name
	}
	return list
}

// moment of now. The first one that is seen is the epoch; that of a process goes on where the wall clock jumps.
func (t *Table) moment(now time.Time) moment {
	if t.epoch.IsZero() {
		t.epoch = now
	}
	return now.Sub(t.epoch)
}

func (t *Table) find(address netip.Addr) (*namesOfAddress, bool) {
	if known, ok := t.proven.Get(address); ok {
		return known, true
	}
	return t.once.Get(address)
}

func (t *Table) prove(address netip.Addr, known *namesOfAddress) {
	if t.once.Remove(address) {
		t.proven.Add(address, known)
	}
}

// makeRoom drops the addresses that were not in use for the longest time.
func (t *Table) makeRoom() {
	for t.once.Len()+t.proven.Len() > t.addresses || t.names > t.maxNames {
		from := t.proven
		if t.once.Len() > max(t.addresses/4, 1) || t.proven.Len() == 0 {
			from = t.once
		}
		_, dropped, ok := from.RemoveOldest()
		if !ok {
			return
		}
		t.names -= len(dropped.names)
	}
}

// note puts the name in front.
func (k *namesOfAddress) note(name *hostName, text string, at, until moment) string {
	i := slices.IndexFunc(k.names, func(n noted) bool { return n.name == string(name.bytes()) })
	if i < 0 {
		if text == "" {
			text = string(name.bytes())
		}
		k.names = slices.Insert(k.names, 0, noted{name: text, until: until, counted: at, times: 1})
		return text
	}
	n := k.names[i]
	n.until = max(n.until, until)
	if at-n.counted >= again && n.times < 255 {
		n.times, n.counted = n.times+1, at
	}
	copy(k.names[1:i+1], k.names[:i])
	k.names[0] = n
	return n.name
}

func (k *namesOfAddress) expire(at moment) {
	k.names = slices.DeleteFunc(k.names, func(n noted) bool { return n.until <= at })
}

// makeRoom drops what has expired, and then, of the older half, what was noted the fewest times, the oldest first.
func (k *namesOfAddress) makeRoom(at moment, limit int) {
	if len(k.names) <= limit {
		return
	}
	k.expire(at)
	for len(k.names) > limit {
		least := len(k.names) - 1
		for i := least; i >= len(k.names)/2; i-- {
			if k.names[i].times < k.names[least].times {
				least = i
			}
		}
		k.names = slices.Delete(k.names, least, least+1)
	}
}
