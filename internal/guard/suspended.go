package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/peer"
	"github.com/smtpwall/smtpwall/rules"
)

// suspendedFile, in the state directory, holds the last list of who is suspended,
// for the time in which a guard runs and no proxy has said it again.
const suspendedFile = "suspended.json"

const (
	// MaxSuspended is how many keys count.
	MaxSuspended = 8192
	// maxSuspendedKey bounds one of them: a prefix and a unit's name, which has
	// 255 octets at most.
	maxSuspendedKey = 300
	// suspendPause is kept between two lists: each makes the kernel take all the
	// rules anew, which a proxy gone wrong must not ask for all the time.
	suspendPause = 250 * time.Millisecond
)

// nobody is the uid that no process has.
const nobody = math.MaxUint32

// suspension is who is suspended, as far as sockets can tell.
type suspension struct {
	uids       map[uint32]bool
	units      map[string]bool
	containers map[string]bool
	// unknown is why nobody knows: then all are taken for suspended.
	unknown error
}

// parseSuspended reads keys as policy spells them. Those that count are taken, in
// an order that is the same for the same keys; leftOut says which are not.
func parseSuspended(keys []string) (s suspension, taken []string, leftOut error) {
	s = suspension{uids: map[uint32]bool{}, units: map[string]bool{}, containers: map[string]bool{}}
	var odd []string
	for _, key := range slices.Compact(slices.SortedFunc(slices.Values(keys), bySocket)) {
		if len(taken) < MaxSuspended && s.take(key) {
			taken = append(taken, key)
		} else {
			odd = append(odd, key)
		}
	}
	return s, taken, errLeftOut(odd)
}

// bySocket orders keys, those first for which there can be sockets: should there
// be too many, they are the ones that matter here.
func bySocket(a, b string) int {
	if a, b := hasSocket(a), hasSocket(b); a != b {
		if a {
			return -1
		}
		return 1
	}
	return strings.Compare(a, b)
}

// hasSocket is false for accounts and the unknown.
func hasSocket(key string) bool { return key != "unknown" && !strings.HasPrefix(key, "account:") }

// take adds a key, if it is one.
func (s suspension) take(key string) bool {
	kind, name, _ := strings.Cut(key, ":")
	uid, err := strconv.ParseUint(name, 10, 32)
	switch {
	case len(key) > maxSuspendedKey:
		return false
	case !hasSocket(key):
	case kind == "uid" && err == nil && uid != nobody:
		s.uids[uint32(uid)] = true
	case kind == "unit" && name != "":
		s.units[name] = true
	case kind == "container" && name != "":
		s.containers[name] = true
	default:
		return false
	}
	return true
}

// errLeftOut names some of the keys that do not count.
func errLeftOut(keys []string) error {
	const named = 5
	if len(keys) == 0 {
		return nil
	}
	text := make([]string, 0, named)
	for _, key := range keys[:min(len(keys), named)] {
		text = append(text, fmt.Sprintf("%.60q", key))
	}
	if more := len(keys) - len(text); more > 0 {
		text = append(text, fmt.Sprintf("%d more", more))
	}
	return fmt.Errorf("direct connections of some of the suspended go on, as they are no keys or more than %d: %s", MaxSuspended, strings.Join(text, ", "))
}

// inRules are the suspended as the rules want them, users with the uids that they
// have for user namespaces. A control group that lies too deep is there with its
// neighbours.
func (s suspension) inRules(k known) rules.Suspended {
	var r rules.Suspended
	for uid := range s.uids {
		if uid != k.proxy {
			r.UIDs = append(r.UIDs, uid)
		}
	}
	for _, of := range k.subordinates(func(uid uint32) bool { return s.uids[uid] && uid != k.proxy }) {
		r.Ranges = append(r.Ranges, rules.UIDRange(of))
	}
	for _, p := range k.placed {
		if s.units[p.unit] || s.containers[p.container] {
			r.CGroups = append(r.CGroups, p.id)
		}
	}
	slices.Sort(r.UIDs)
	slices.Sort(r.CGroups)
	r.CGroups = slices.Compact(r.CGroups)
	return r
}

// covers tells whether the owner of a socket is suspended. A uid in a container
// is none of the host's users.
func (s suspension) covers(o socketOwner) bool {
	return s.units[o.unit] && o.unit != "" || s.containers[o.container] && o.container != "" ||
		o.container == "" && o.hasUID && s.uids[o.uid]
}

// SubordinateOf is the user as whom a uid counts that is in a range of /etc/subuid.
// To suspend it by itself would be no use.
func SubordinateOf(uid uint32) (owner uint32, ok bool) {
	return peer.NewUsers("", "", nil).Owner(uid)
}

// Suspend takes the list of all who are suspended, by their keys. For them
// nothing is allowed any more, and in enforce mode their open direct connections
// end. The list stands until the next one, over restarts too. What is no key, or
// beyond MaxSuspended, is left out and a condition.
func (g *Guard) Suspend(ctx context.Context, keys []string) error {
	next, keys, leftOut := parseSuspended(keys)
	g.suspending.Lock()
	defer g.suspending.Unlock()
	if !sleep(ctx, time.Until(g.suspendedAt.Add(suspendPause))) {
		return ctx.Err()
	}
	defer func() { g.suspendedAt = time.Now() }()
	if g.conditions.set("suspended keys", leftOut) && leftOut != nil {
		g.log.Error("not all of the suspended can be told", zap.Error(leftOut))
	}
	if now, known := g.direct.suspendedNow(); known && slices.Equal(now, keys) {
		return nil
	}
	g.conditions.set("suspended", g.keepSuspended(keys))
	g.direct.suspend(keys, next)
	g.log.Info("suspended identities", zap.Int(logfields.Count, len(keys)))
	return g.cut(ctx, next)
}

// cut ends the direct connections of the suspended. It does so before the rules
// refuse their packets, so that the other end hears of it, and once more
// afterwards, for what was opened in between.
func (g *Guard) cut(ctx context.Context, who suspension) error {
	enforcing := g.options().Rules.Mode == rules.Enforce
	if enforcing {
		g.destroy(ctx, who)
	}
	if err := g.refreshDirect(ctx); err != nil {
		return fmt.Errorf("suspending: %w", err)
	}
	if enforcing {
		g.destroy(ctx, who)
	}
	return nil
}

// destroy ends connections. Where the kernel cannot, the rules end them at their
// next packet.
func (g *Guard) destroy(ctx context.Context, who suspension) {
	direct := g.direct.destinations()
	if len(direct) == 0 {
		return
	}
	proxy := g.options().Rules.ProxyUID // whose way to the relays nobody cuts
	ended, err := g.kernel.destroy(ctx, func(s openSocket) bool {
		return s.uid != proxy && direct.contain(s.remote) && who.covers(g.attempts.who.socketOwner(s))
	})
	if err != nil {
		err = fmt.Errorf("connections of the suspended end at their next packet only: %w", err)
	}
	g.conditions.set("destroy", err)
	if ended > 0 {
		g.log.Info("direct connections of the suspended were ended", zap.Int(logfields.Count, ended))
	}
}

func (g *Guard) keepSuspended(keys []string) error {
	if len(keys) == 0 {
		return g.removeState(suspendedFile)
	}
	return g.writeState(suspendedFile, storedSuspended{keys})
}

type storedSuspended struct {
	Suspended []string `json:"suspended"`
}

// openSuspended goes on with the list of an earlier guard. If that cannot be
// read, everybody may be on it: nothing is allowed until the proxy has said who
// is.
func (g *Guard) openSuspended() {
	keys, who, err := g.loadSuspended()
	if err != nil {
		who = suspension{unknown: fmt.Errorf("who is suspended is not known, nothing is allowed until the proxy says it: %w", err)}
		g.conditions.set("suspended", who.unknown)
	}
	g.direct.suspend(keys, who)
}

func (g *Guard) loadSuspended() ([]string, suspension, error) {
	var s storedSuspended
	data, err := g.readState(suspendedFile)
	if err != nil {
		return nil, suspension{}, err
	}
	if data != nil {
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			return nil, suspension{}, fmt.Errorf("reading %s: %w", suspendedFile, err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) || len(s.Suspended) == 0 {
			return nil, suspension{}, fmt.Errorf("reading %s: it is not what a guard wrote", suspendedFile)
		}
	}
	who, keys, leftOut := parseSuspended(s.Suspended)
	return keys, who, leftOut // of a list that a guard wrote, nothing is
}
