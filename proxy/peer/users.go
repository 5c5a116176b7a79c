package peer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Users gives uids their names from passwd and group files, which it reads
// again when they have changed. Users that only a directory service knows have
// a uid and no name.
type Users struct {
	passwd, group string
	subuid        string // "" is none
	log           *zap.Logger
	mu            sync.Mutex // held while the files are read
	table         atomic.Pointer[userTable]
	recheck       time.Duration // how long a look at the files is good for
	looked        atomic.Int64  // when that was, in nanoseconds
}

// recheckUsers spares each connection two looks at files that seldom change:
// a name may be that much out of date, an id never is.
const recheckUsers = time.Second

// userTable is one reading of the files; it never changes.
type userTable struct {
	passwdStamp, groupStamp, subuidStamp fileStamp
	byUID                                map[uint32]userEntry
	named                                []uint32       // the keys of byUID with a name, in order
	subordinates                         []subordinates // by their first uid
}

type userEntry struct {
	name   string
	groups []string
}

// fileStamp changes whenever a file is replaced or written.
type fileStamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// NewUsers reads nothing yet. Empty paths mean /etc/passwd and /etc/group; a
// nil log means none.
func NewUsers(passwd, group string, log *zap.Logger) *Users {
	u := &Users{passwd: "/etc/passwd", group: "/etc/group", subuid: "/etc/subuid", log: log, recheck: recheckUsers}
	if passwd != "" {
		u.passwd, u.subuid = passwd, "" // the ranges are those of other users
	}
	if group != "" {
		u.group = group
	}
	if log == nil {
		u.log = zap.NewNop()
	}
	u.table.Store(&userTable{})
	return u
}

// Lookup is the name of uid, empty if it has none, and the names of its groups,
// the primary one first. The slice is shared: do not change it. Where the files
// cannot be read, what was read last stands.
func (u *Users) Lookup(uid uint32) (name string, groups []string) {
	e := u.current().byUID[uid]
	return e.name, e.groups
}

// current is the table of the files as they are now.
func (u *Users) current() *userTable {
	table := u.table.Load()
	now := time.Now().UnixNano()
	if looked := u.looked.Load(); looked != 0 && now-looked < int64(u.recheck) {
		return table
	}
	if table.fresh(u) {
		u.looked.Store(now)
		return table
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if table = u.table.Load(); table.fresh(u) {
		return table
	}
	read, err := u.read()
	if err != nil {
		u.log.Warn("user names not read", zap.Error(err))
		return table
	}
	u.table.Store(read)
	u.looked.Store(now)
	return read
}

func (t *userTable) fresh(u *Users) bool {
	passwd, perr := stamp(u.passwd)
	group, gerr := stamp(u.group)
	return perr == nil && gerr == nil && t.passwdStamp == passwd && t.groupStamp == group && t.subuidStamp == u.subuidStamp()
}

// subuidStamp is zero where there is no such file.
func (u *Users) subuidStamp() fileStamp {
	if u.subuid == "" {
		return fileStamp{}
	}
	s, _ := stamp(u.subuid)
	return s
}

// read takes the stamps before the content: a change in between is then seen
// the next time.
func (u *Users) read() (*userTable, error) {
	passwd, perr := stamp(u.passwd)
	group, gerr := stamp(u.group)
	if err := errors.Join(perr, gerr); err != nil {
		return nil, err
	}
	subuid := u.subuidStamp()
	gids, members, err := readGroups(u.group)
	if err != nil {
		return nil, err
	}
	byUID, err := readUsers(u.passwd, gids, members)
	if err != nil {
		return nil, err
	}
	t := &userTable{passwdStamp: passwd, groupStamp: group, subuidStamp: subuid, byUID: byUID}
	for uid, e := range byUID {
		if e.name != "" {
			t.named = append(t.named, uid)
		}
	}
	slices.Sort(t.named)
	if u.subuid != "" {
		t.subordinates, err = readSubordinates(u.subuid, byUID)
	}
	return t, err
}

// readUsers reads name:password:uid:gid:… lines; the first line of a uid counts,
// as for getpwuid(3).
func readUsers(file string, gids map[uint32]string, members map[string][]string) (map[uint32]userEntry, error) {
	byUID := map[uint32]userEntry{}
	err := eachLine(file, func(fields []string) {
		uid, ok := parseID(fields, 2)
		if _, seen := byUID[uid]; !ok || seen {
			return
		}
		e := userEntry{name: fields[0], groups: members[fields[0]]}
		if gid, ok := parseID(fields, 3); ok && gids[gid] != "" {
			e.groups = primaryFirst(gids[gid], e.groups)
		}
		byUID[uid] = e
	})
	return byUID, err
}

// readGroups reads name:password:gid:member,… lines.
func readGroups(file string) (gids map[uint32]string, members map[string][]string, err error) {
	gids, members = map[uint32]string{}, map[string][]string{}
	err = eachLine(file, func(fields []string) {
		gid, ok := parseID(fields, 2)
		if !ok {
			return
		}
		if _, seen := gids[gid]; !seen {
			gids[gid] = fields[0]
		}
		if len(fields) < 4 {
			return
		}
		for user := range strings.SplitSeq(fields[3], ",") {
			if user = strings.TrimSpace(user); user != "" {
				members[user] = append(members[user], fields[0])
			}
		}
	})
	return gids, members, err
}

// primaryFirst is groups with primary at its head, once.
func primaryFirst(primary string, groups []string) []string {
	all := []string{primary}
	for _, g := range groups {
		if !slices.Contains(all, g) {
			all = append(all, g)
		}
	}
	return all
}

// eachLine calls fn with the fields of each line that has a name. Lines may be
// of any length: a group may have a hundred thousand members.
func eachLine(file string, fn func(fields []string)) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("reading user names: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := r.ReadString('\n')
		if err != nil && err != io.EOF {
			return fmt.Errorf("reading user names: %w", err)
		}
		// Comments, and the NIS markers + and -, name nobody.
		if line = strings.TrimSpace(line); line != "" && !strings.ContainsRune("#+-:", rune(line[0])) {
			fn(strings.Split(line, ":"))
		}
		if err == io.EOF {
			return nil
		}
	}
}

// parseID reads the numeric id in field i.
func parseID(fields []string, i int) (uint32, bool) {
	if len(fields) <= i {
		return 0, false
	}
	id, err := strconv.ParseUint(fields[i], 10, 32)
	return uint32(id), err == nil && id != NoUID
}

func stamp(file string) (fileStamp, error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return fileStamp{}, &os.PathError{Op: "stat", Path: file, Err: err}
	}
	return fileStamp{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}, nil
}
