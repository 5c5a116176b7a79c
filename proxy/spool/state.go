package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// State is what becomes of a message next. A message is in one at any instant.
type State string

// The states, which are directories or, for those in queue/, how names end.
const (
	Incoming State = "incoming" // being written; nobody was promised anything
	Active   State = "active"   // ours; being tried, the relay may have it already
	Deferred State = "deferred" // ours, to be tried (again) later
	Hold     State = "hold"     // ours, parked until somebody releases it
	Corrupt  State = "corrupt"  // ours, and damaged: for a person to look at
)

// queued are the states in queue/.
var queued = []State{Deferred, Active, Hold}

// inQueue reports whether the state is one of a message that we can deliver.
func (s State) inQueue() bool { return s == Active || s == Deferred || s == Hold }

// The directories of a spool, and its lock.
const (
	incomingDir = "incoming"
	queueDir    = "queue"
	corruptDir  = "corrupt"
	holdDir     = "hold" // of format 1

	lockFile = "lock"
)

// store is where the files are.
type store struct {
	dir string
	fs  durable.FS
}

func (st store) path(parts ...string) string {
	return filepath.Join(append([]string{st.dir}, parts...)...)
}

// queuePath is the file of a message in queue/.
func (st store) queuePath(id string, state State) string {
	return st.dir + "/" + queueDir + "/" + id + "." + string(state)
}

// incomingPath is the n-th file in incoming/. The number makes the name one that
// no other file has had in this process: a spare file keeps the one that it has.
func (st store) incomingPath(id string, n uint64) string {
	return st.dir + "/" + incomingDir + "/" + id + "." + strconv.FormatUint(n, 10)
}

// isIncoming reports whether a name may be one of incomingPath, or of an earlier
// version, which had no number.
func isIncoming(name string) bool {
	id, n, _ := strings.Cut(name, ".")
	return validID(id) && (n == "" || validID(n))
}

// parseQueueName is the inverse of queuePath, for the name alone.
func parseQueueName(name string) (id string, state State, ok bool) {
	id, suffix, _ := strings.Cut(name, ".")
	state = State(suffix)
	return id, state, validID(id) && state.inQueue()
}

// eachFile calls fn for every regular file in a directory; fn may remove it.
func (st store) eachFile(dir string, fn func(fs.DirEntry) error) error {
	d, err := st.fs.OpenFile(st.path(dir), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(512)
		for _, e := range entries {
			if !e.Type().IsRegular() {
				continue
			}
			if err := fn(e); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (st store) syncDir(dir string) error {
	if err := st.fs.SyncDir(st.path(dir)); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}
