package guard

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/proxy/peer"
	"github.com/smtpwall/smtpwall/rules"
)

func TestSuspend(t *testing.T) {
	container := strings.Repeat("ab", 32)
	entries := []Allow{{Unit: "postfix.service", Host: "203.0.113.0/24", Port: 25}}
	onDirectBed(t, entries, func(b *directBed) {
		b.move(placed{id: 8, unit: "postfix.service"}, placed{id: 9, unit: "docker-x.scope", container: container}, placed{id: 10, unit: "cron.service"})
		b.suspend("uid:1001", "uid:33", "unit:postfix.service", "container:"+container, "account:webshop", "unknown", fmt.Sprintf("uid:%d", proxyUID))
		got := b.inRules().Suspended
		if !slices.Equal(got.UIDs, []uint32{33, 1001}) || !slices.Equal(got.CGroups, []uint64{8, 9}) {
			t.Errorf("suspended %+v", got)
		}
		if n := b.called("destroy"); n != 2 {
			t.Errorf("connections were ended %d times", n)
		}
		b.move(placed{id: 12, unit: "postfix.service"}) // started again
		if got := b.inRules().Suspended; !slices.Equal(got.CGroups, []uint64{12}) {
			t.Errorf("suspended %+v", got)
		}
		applied := b.called("apply")
		b.suspend("unit:postfix.service", "uid:33", "uid:1001", "uid:33", "unknown", "container:"+container, "account:webshop", fmt.Sprintf("uid:%d", proxyUID))
		if b.called("apply") != applied || b.called("destroy") != 2 {
			t.Error("the same list once more changed something")
		}
		b.end()
		b.start()
		if got := b.inRules().Suspended; !slices.Equal(got.UIDs, []uint32{33, 1001}) || !slices.Equal(got.CGroups, []uint64{12}) {
			t.Errorf("after a restart: %+v", got)
		}
		if s, err := b.guard.Status(t.Context()); err != nil || len(s.Suspended) != 7 {
			t.Errorf("status %+v, %v", s.Suspended, err)
		}
		b.suspend()
		if got := b.inRules().Suspended; len(got.UIDs)+len(got.CGroups) != 0 {
			t.Errorf("after all were resumed: %+v", got)
		}
		if _, err := os.Stat(filepath.Join(b.options.State, suspendedFile)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the list is kept: %v", err)
		}
	})
}

// One key that is none leaves the others as they are, and is told.
func TestSuspendLeavesOut(t *testing.T) {
	onDirectBed(t, []Allow{{UID: "33", Host: "203.0.113.0/24", Port: 25}}, func(b *directBed) {
		for name, key := range map[string]string{
			"no key": "", "no kind": "33", "another kind": "user:bob", "no number": "uid:", "negative": "uid:-1", "nobody": "uid:4294967295",
			"too big": "uid:4294967296", "no unit": "unit:", "no container": "container:", "too long": "unit:" + strings.Repeat("x", 300),
		} {
			b.suspend("uid:33", key, "uid:44")
			if got := b.inRules().Suspended.UIDs; !slices.Equal(got, []uint32{33, 44}) {
				t.Errorf("%s: %v are suspended", name, got)
			}
			if got := b.guard.conditions.all()["suspended keys"]; !strings.Contains(got, fmt.Sprintf("%.60q", key)) {
				t.Errorf("%s: condition %q", name, got)
			}
			b.restartGuard()
			if got := b.inRules().Suspended.UIDs; !slices.Equal(got, []uint32{33, 44}) {
				t.Errorf("%s: %v are suspended after a restart", name, got)
			}
			b.suspend("uid:33")
			if got := b.guard.conditions.all()["suspended keys"]; got != "" {
				t.Errorf("%s: condition %q of a list without it", name, got)
			}
		}
		b.suspend("x1", "x2", "x3", "x4", "x5", "x6", "x7", "uid:33")
		if got := b.guard.conditions.all()["suspended keys"]; !strings.Contains(got, `"x5", 2 more`) {
			t.Errorf("condition %q", got)
		}
	})
}

// Of too many, those of accounts are the first to go: here they change nothing.
func TestSuspendTooMany(t *testing.T) {
	onDirectBed(t, []Allow{{UID: "33", Host: "203.0.113.0/24", Port: 25}}, func(b *directBed) {
		many := make([]string, 0, 2*MaxSuspended)
		for i := range MaxSuspended {
			many = append(many, fmt.Sprintf("account:%0290d", i), fmt.Sprintf("uid:%d", 100_000+i))
		}
		b.suspend(many...)
		if got := b.inRules().Suspended.UIDs; len(got) != MaxSuspended {
			t.Errorf("%d are suspended", len(got))
		}
		if got := b.guard.conditions.all()["suspended keys"]; !strings.Contains(got, fmt.Sprintf("%d more", MaxSuspended-5)) {
			t.Errorf("condition %q", got)
		}
		for i := range many { // as long as they can be
			many[i] = fmt.Sprintf("unit:%0295d", i)
		}
		b.suspend(many...)
		b.restartGuard()
		if s := b.guard.conditions.all()["suspended"]; s != "" || len(b.guard.direct.keys) != MaxSuspended {
			t.Errorf("after a restart %d are known, condition %q", len(b.guard.direct.keys), s)
		}
	})
}

// What can be suspended can be told to a guard.
func TestSuspensionKeysAreThoseOfThePeople(t *testing.T) {
	for _, key := range []string{
		"uid:0", "uid:4294967294", "uid:4294967295", "uid:4294967296", "uid:033", "uid:", "unknown", "unknown:x", "account:x", "account:",
		"unit:" + strings.Repeat("x", 295), "unit:" + strings.Repeat("x", 296), "container:" + strings.Repeat("x", 290), "container:" + strings.Repeat("x", 291),
		"account:" + strings.Repeat("x", 292), "account:" + strings.Repeat("x", 293), "user:x", "33", "",
	} {
		_, _, leftOut := parseSuspended([]string{key})
		if err := admin.CheckKey(key); err == nil && leftOut != nil {
			t.Errorf("%.30s can be suspended, and the guard says %v", key, leftOut)
		}
	}
}

// The uids that a user has for user namespaces are suspended with it, whoever has
// them meanwhile, and those of others are not.
func TestSuspendSubordinates(t *testing.T) {
	owners := map[uint32]peer.UIDRange{1000: {First: 100_000, Last: 165_535}, 1001: {First: 165_536, Last: 231_071}, proxyUID: {First: 300_000, Last: 300_009}}
	onDirectBed(t, []Allow{{Group: "daemon", Host: "203.0.113.0/24", Port: 25}}, func(b *directBed) {
		b.ranges = func(of func(uint32) bool) (all []peer.UIDRange) {
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, owner := range slices.Sorted(maps.Keys(owners)) {
				if of(owner) {
					all = append(all, owners[owner])
				}
			}
			return all
		}
		b.restartGuard()
		b.suspend("uid:1000", "account:x", fmt.Sprintf("uid:%d", proxyUID))
		if got := b.inRules().Suspended; !slices.Equal(got.Ranges, []rules.UIDRange{{First: 100_000, Last: 165_535}}) || !slices.Equal(got.UIDs, []uint32{1000}) {
			t.Errorf("suspended %+v", got)
		}
		b.mu.Lock()
		owners[1000] = peer.UIDRange{First: 400_000, Last: 465_535}
		b.mu.Unlock()
		time.Sleep(directInterval + time.Second)
		synctest.Wait()
		if got := b.inRules().Suspended.Ranges; !slices.Equal(got, []rules.UIDRange{{First: 400_000, Last: 465_535}}) {
			t.Errorf("after the file was changed: %+v", got)
		}
		b.suspend()
		if got := b.inRules().Suspended; len(got.Ranges)+len(got.UIDs) != 0 {
			t.Errorf("after all were resumed: %+v", got)
		}
	})
}

// A proxy gone wrong cannot make the kernel take the rules all the time.
func TestSuspendTakesItsTime(t *testing.T) {
	onDirectBed(t, []Allow{{UID: "33", Host: "203.0.113.0/24", Port: 25}}, func(b *directBed) {
		begun := time.Now()
		for i := range 20 {
			b.suspend(fmt.Sprintf("uid:%d", 100+i))
		}
		if took := time.Since(begun); took < 19*suspendPause {
			t.Errorf("20 lists took %s", took)
		}
	})
}

func TestADamagedListOfTheSuspended(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "cut": `{"suspended":["uid:33"`, "of nobody": `{"suspended":[]}`, "an unknown key": `{"suspended":["uid:33"],"x":1}`,
		"no identity": `{"suspended":["bob"]}`, "twice": `{"suspended":["uid:33"]}{}`,
	} {
		t.Run(name, func(t *testing.T) {
			onDirectBed(t, []Allow{{UID: "33", Host: "203.0.113.0/24", Port: 25}, {Unit: "a.service", Host: "203.0.113.0/24", Port: 25}}, func(b *directBed) {
				b.move(placed{id: 8, unit: "a.service"})
				b.end()
				if err := os.WriteFile(filepath.Join(b.options.State, suspendedFile), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				b.start()
				for i := range 2 {
					if e := b.entry(i); e.Owner != rules.CGroup0 || len(e.CGroups) != 0 {
						t.Errorf("allowed without knowing who is suspended: %+v", e)
					}
				}
				if b.guard.conditions.all()["suspended"] == "" {
					t.Error("nobody says so")
				}
				b.suspend() // nobody is, the proxy says
				if u, s := b.entry(0), b.entry(1); u.ID != 33 || !slices.Equal(s.CGroups, []uint64{8}) || b.guard.conditions.all()["suspended"] != "" {
					t.Errorf("got %+v and %+v, conditions %v", u, s, b.guard.conditions.all())
				}
			})
		})
	}
}

// Only direct connections of the suspended end: no one's who is not suspended,
// none that the rules send to the proxy, which says goodbye itself, and none on
// this host.
func TestSuspendEndsTheRightConnections(t *testing.T) {
	to := func(uid, inode uint32, remote string) openSocket {
		return openSocket{uid: uid, inode: inode, remote: netip.MustParseAddrPort(remote)}
	}
	keep := []openSocket{
		to(34, 1, "203.0.113.7:25"),
		to(33, 1, "203.0.113.7:587"), to(33, 1, "198.51.100.7:25"), to(33, 1, "203.0.113.7:443"),
		to(33, 1, "127.0.0.1:25"), to(33, 1, "[::1]:25"),
		to(0, 0, "203.0.113.7:25"), // closed, of nobody
		to(proxyUID, 1, "203.0.113.7:25"),
	}
	end := []openSocket{to(33, 1, "203.0.113.7:25"), to(33, 0, "203.0.113.8:25"), to(33, 1, "[::ffff:203.0.113.9]:25"), to(33, 1, "[2001:db8::7]:25")}
	entries := []Allow{
		{UID: "33", Host: "203.0.113.0/24", Port: 25}, {UID: "33", Host: "127.0.0.0/8", Port: 25}, {UID: "33", Host: "2001:db8::/32", Port: 25},
	}
	onDirectBed(t, entries, func(b *directBed) {
		b.open = slices.Concat(keep, end)
		b.suspend("uid:33", "uid:0", fmt.Sprintf("uid:%d", proxyUID))
		if !slices.Equal(b.open, keep) {
			t.Errorf("left are %+v", b.open)
		}
		if b.guard.Observe(t.Context(), "root") != nil {
			t.Fatal("no observe mode")
		}
		b.open = slices.Concat(keep, end)
		b.suspend("uid:33")
		if len(b.open) != len(keep)+len(end) {
			t.Errorf("observe mode ends connections; left are %+v", b.open)
		}
	})
}

func TestSuspendWhereTheKernelCannotEndConnections(t *testing.T) {
	onDirectBed(t, []Allow{{UID: "33", Host: "203.0.113.0/24", Port: 25}}, func(b *directBed) {
		b.failing("destroy", errNoDestroy)
		b.suspend("uid:33")
		if got := b.guard.conditions.all()["destroy"]; !strings.Contains(got, "at their next packet") {
			t.Errorf("condition %q", got)
		}
		if got := b.inRules().Suspended.UIDs; !slices.Equal(got, []uint32{33}) {
			t.Errorf("suspended %v", got)
		}
	})
}

func TestSuspensionCovers(t *testing.T) {
	s, _, err := parseSuspended([]string{"uid:33", "unit:a.service", "container:c"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		owner socketOwner
		want  bool
	}{
		{socketOwner{uid: 33, hasUID: true}, true},
		{socketOwner{uid: 33}, false},
		{socketOwner{uid: 33, hasUID: true, container: "d"}, false}, // none of the host's users
		{socketOwner{uid: 34, hasUID: true, container: "c"}, true},
		{socketOwner{uid: 34, hasUID: true, unit: "a.service"}, true},
		{socketOwner{uid: 34, hasUID: true, unit: "b.service"}, false},
		{socketOwner{}, false},
	} {
		if got := s.covers(tt.owner); got != tt.want {
			t.Errorf("%+v: %v", tt.owner, got)
		}
	}
}
