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
	slices.SortFunc(all, func(a, b subordinates) int { return cmp.Compare(a.first, b.first) })
	return all, err
}
