package peer

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"strconv"
)

// subordinates is a range of uids that a user has for user namespaces of its own
// (subuid(5)).
type subordinates struct {
	first, count uint32
	owner        uint32
}

// Owner is the user to whom /etc/subuid gives a uid, if it gives it to anybody.
// A user can be each of the uids of its ranges, so who counts by uid must count
// them as one. Ranges of root are not root's own: it hands them to containers.
func (u *Users) Owner(uid uint32) (owner uint32, ok bool) {
	table := u.current()
	if table.byUID[uid].name != "" {
		return 0, false
	}
	after, found := slices.BinarySearchFunc(table.subordinates, uid, func(s subordinates, uid uint32) int {
		return cmp.Compare(s.first, uid)
	})
	if !found {
		after--
	}
	if after >= 0 && uid-table.subordinates[after].first < table.subordinates[after].count {
		return table.subordinates[after].owner, true
	}
	return 0, false
}

// UIDRange is the uids from First to Last.
type UIDRange struct{ First, Last uint32 }

// Ranges are the uids that Owner puts down to those users whom of takes: in order,
// apart from each other, and without the uids of users that have a name.
func (u *Users) Ranges(of func(owner uint32) bool) []UIDRange {
	table := u.current()
	var all []UIDRange
	for i, s := range table.subordinates {
		if s.count == 0 || !of(s.owner) {
			continue
		}
		last := min(uint64(s.first)+uint64(s.count), NoUID) - 1
		if i+1 < len(table.subordinates) { // of two that overlap the later one counts
			last = min(last, uint64(table.subordinates[i+1].first)-1)
		}
		if last >= uint64(s.first) {
			all = table.unnamed(all, UIDRange{s.first, uint32(last)})
		}
	}
	return all
}

// unnamed adds what is left of a range without the users that have a name.
func (t *userTable) unnamed(all []UIDRange, r UIDRange) []UIDRange {
	next := uint64(r.First)
	at, _ := slices.BinarySearch(t.named, r.First)
	for ; at < len(t.named) && t.named[at] <= r.Last; at++ {
		if uid := uint64(t.named[at]); next < uid {
			all = joined(all, UIDRange{uint32(next), uint32(uid - 1)})
		}
		next = uint64(t.named[at]) + 1
	}
	if next <= uint64(r.Last) {
		all = joined(all, UIDRange{uint32(next), r.Last})
	}
	return all
}

// joined adds a range, to the last one if it goes on where that ends.
func joined(all []UIDRange, r UIDRange) []UIDRange {
	if n := len(all); n > 0 && uint64(all[n-1].Last)+1 == uint64(r.First) {
		all[n-1].Last = r.Last
		return all
	}
	return append(all, r)
}

// readSubordinates reads name:first:count lines, in which the name may be a uid.
// A host without the file has none.
func readSubordinates(file string, byUID map[uint32]userEntry) ([]subordinates, error) {
	uids := make(map[string]uint32, len(byUID))
	for uid, e := range byUID {
		uids[e.name] = uid
	}
	var all []subordinates
	err := eachLine(file, func(fields []string) {
		first, ok := parseID(fields, 1)
		count, counted := parseID(fields, 2)
		owner, known := uids[fields[0]]
		if id, err := strconv.ParseUint(fields[0], 10, 32); !known && err == nil {
			owner, known = uint32(id), true
		}
		if ok && counted && known && owner != 0 && first != 0 {
			all = append(all, subordinates{first: first, count: count, owner: owner})
		}
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	slices.SortStableFunc(all, func(a, b subordinates) int { return cmp.Compare(a.first, b.first) })
	return all, err
}
