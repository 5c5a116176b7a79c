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
	"github.com/smtpwall/smtpwall/rules"
)

// suspendedFile, in the state directory, holds the last list of who is suspended,
// for the time in which a guard runs and no proxy has said it again.
const suspendedFile = "suspended.json"

const (
	// MaxSuspended is how many keys Suspend takes.
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

// parseSuspended reads keys as policy spells them. Accounts and the unknown have
// no sockets to tell them by.
func parseSuspended(keys []string) (suspension, error) {
	s := suspension{uids: map[uint32]bool{}, units: map[string]bool{}, containers: map[string]bool{}}
	if len(keys) > MaxSuspended {
		return s, fmt.Errorf("more than %d are suspended", MaxSuspended)
	}
	for _, key := range keys {
		kind, name, _ := strings.Cut(key, ":")
		uid, err := strconv.ParseUint(name, 10, 32)
		switch {
		case len(key) > maxSuspendedKey:
			return s, errors.New("the key of a suspended identity is too long")
		case kind == "account", key == "unknown":
		case kind == "uid" && err == nil && uid != nobody:
			s.uids[uint32(uid)] = true
		case kind == "unit" && name != "":
			s.units[name] = true
		case kind == "container" && name != "":
			s.containers[name] = true
		default:
			return s, fmt.Errorf("%q is not the key of an identity", key)
		}
	}
	return s, nil
}

// inRules are the suspended as the rules want them. A control group that lies
// too deep is there with its neighbours.
func (s suspension) inRules(k known) rules.Suspended {
	var r rules.Suspended
	for uid := range s.uids {
		if uid != k.proxy {
			r.UIDs = append(r.UIDs, uid)
		}
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

// Suspend takes the list of all who are suspended, by their keys. For them
// nothing is allowed any more, and in enforce mode their open direct connections
// end. The list stands until the next one, over restarts too.
func (g *Guard) Suspend(ctx context.Context, keys []string) error {
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	next, err := parseSuspended(keys)
	if err != nil {
		return err
	}
	g.suspending.Lock()
	defer g.suspending.Unlock()
	if !sleep(ctx, time.Until(g.suspendedAt.Add(suspendPause))) {
		return ctx.Err()
	}
	defer func() { g.suspendedAt = time.Now() }()
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
	who, err := parseSuspended(s.Suspended)
	return s.Suspended, who, err
}
