package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/proxy/peer"
	"github.com/smtpwall/smtpwall/rules"
)

// directBed runs guards with entries, in virtual time.
type directBed struct {
	*fakeKernel
	t       *testing.T
	options Options
	names   map[string][]netip.Addr
	ranges  func(func(uint32) bool) []peer.UIDRange // of nobody if nil
	guard   *Guard
	end     func()
}

func onDirectBed(t *testing.T, entries []Allow, f func(b *directBed)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &directBed{fakeKernel: newFakeKernel(), t: t, names: map[string][]netip.Addr{}}
		b.moved = make(chan struct{}, 1)
		b.options = Options{Rules: rules.Options{Mode: rules.Enforce, ProxyUID: proxyUID}, State: dir, Allow: entries}
		b.start()
		f(b)
		b.end()
	})
}

func (b *directBed) start() {
	b.t.Helper()
	g := b.newGuard(b.t, b.options)
	g.direct = newDirect(zap.NewNop(), func(_ context.Context, host string, v6 bool) (answer, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if _, ok := b.names[host]; !ok {
			return answer{}, errors.New("no name server answers")
		}
		return answer{addrs: ofFamily(b.names[host], v6), ttl: minRefresh}, nil
	})
	g.direct.subordinates = func(of func(uint32) bool) []peer.UIDRange {
		if b.ranges == nil {
			return nil
		}
		return b.ranges(of)
	}
	g.direct.configure(b.options.Allow)
	g.attempts.who = newAttributor(g.log)
	g.attempts.who.procs.root = b.t.TempDir()
	b.guard, b.end = g, runInBubble(b.t, g)
}

func (b *directBed) restartGuard() {
	b.t.Helper()
	b.end()
	b.start()
}

// move makes control groups come and go.
func (b *directBed) move(now ...placed) {
	b.mu.Lock()
	b.placed = now
	b.mu.Unlock()
	b.moved <- struct{}{}
	time.Sleep(2 * directPause)
	synctest.Wait()
}

func (b *directBed) resolve(name string, addrs ...string) {
	b.mu.Lock()
	b.names[name] = nil
	for _, a := range addrs {
		b.names[name] = append(b.names[name], netip.MustParseAddr(a))
	}
	b.mu.Unlock()
	time.Sleep(maxRetry)
	synctest.Wait()
}

// inRules are the rules that the kernel has, by the name of the owner.
func (b *directBed) inRules() rules.Options {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.applied
}

func (b *directBed) entry(i int) rules.Allow {
	b.t.Helper()
	all := b.inRules().Allow
	if i >= len(all) {
		b.t.Fatalf("there are %d entries: %+v", len(all), all)
	}
	return all[i]
}

func (b *directBed) condition(part string) {
	b.t.Helper()
	if got := b.guard.conditions.all()["allow"]; !strings.Contains(got, part) || (part == "") != (got == "") {
		b.t.Errorf("condition %q, want %q", got, part)
	}
}

func (b *directBed) suspend(keys ...string) {
	b.t.Helper()
	if err := b.guard.Suspend(b.t.Context(), keys); err != nil {
		b.t.Fatal(err)
	}
}

func networks(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestAllowUsersAndGroups(t *testing.T) {
	entries := []Allow{
		{User: "root", Host: "203.0.113.7", Port: 587},
		{UID: "1234", Host: "203.0.113.0/24", Port: 25},
		{Group: "daemon", Host: "2001:db8::/32", Port: 465},
		{User: "nobody-of-this-name", Host: "203.0.113.7", Port: 587},
		{UID: fmt.Sprint(proxyUID), Host: "203.0.113.7", Port: 25},
		{UID: "4294967295", Host: "203.0.113.7", Port: 25},
	}
	onDirectBed(t, entries, func(b *directBed) {
		want := []rules.Allow{
			{Owner: rules.SKUID, ID: 0, Networks: networks("203.0.113.7/32"), Port: 587},
			{Owner: rules.SKUID, ID: 1234, Networks: networks("203.0.113.0/24"), Port: 25},
			{Owner: rules.SKGID, ID: 1, Networks: networks("2001:db8::/32"), Port: 465},
			{Owner: rules.CGroup0, Networks: networks("203.0.113.7/32"), Port: 587},
			{Owner: rules.CGroup0, Networks: networks("203.0.113.7/32"), Port: 25},
			{Owner: rules.CGroup0, Networks: networks("203.0.113.7/32"), Port: 25},
		}
		for i, w := range want {
			got := b.entry(i)
			w.Name = got.Name
			if !slices.Equal(got.Networks, w.Networks) || got.Owner != w.Owner || got.ID != w.ID || got.Port != w.Port || len(got.CGroups) > 0 {
				t.Errorf("%s: got %+v, want %+v", entries[i].who(), got, w)
			}
		}
		b.condition("user nobody-of-this-name to 203.0.113.7:587: there is no such user")
		b.condition("the proxy reaches the relays, and nothing else")
		b.condition(`"4294967295" is no id`)
		s, err := b.guard.Status(t.Context())
		if err != nil || len(s.Allow) != len(entries) || s.Allow[0].Who != "user root" || s.Allow[0].Error != "" || s.Allow[3].Error == "" {
			t.Errorf("status %+v, %v", s.Allow, err)
		}
	})
}

func TestAllowAUnit(t *testing.T) {
	onDirectBed(t, []Allow{{Unit: "postfix.service", Host: "0.0.0.0/0", Port: 25}}, func(b *directBed) {
		b.condition("unit postfix.service to 0.0.0.0/0:25: the unit does not run")
		b.move(placed{id: 7, unit: "cron.service"}, placed{id: 8, unit: "postfix.service"}, placed{id: 9, container: "c1"})
		if e := b.entry(0); !slices.Equal(e.CGroups, []uint64{8}) || len(b.inRules().Containers) > 0 {
			t.Errorf("got %+v, containers %v", e, b.inRules().Containers)
		}
		b.condition("")
		applied := b.called("apply")
		b.move(placed{id: 8, unit: "postfix.service"}, placed{id: 9, container: "c1"}, placed{id: 10, unit: "other.service"})
		if b.called("apply") != applied {
			t.Error("the rules were put up anew for nobody")
		}
		b.move(placed{id: 9, container: "c1"})
		if e := b.entry(0); len(e.CGroups) != 0 {
			t.Errorf("got %+v", e)
		}
		b.condition("does not run")
		b.move(placed{id: 11, unit: "postfix.service"}) // the same unit has another id
		if e := b.entry(0); !slices.Equal(e.CGroups, []uint64{11}) {
			t.Errorf("got %+v", e)
		}
		b.failing("look", errors.New("too many open files"))
		b.move()
		if e := b.entry(0); !slices.Equal(e.CGroups, []uint64{11}) || b.guard.conditions.all()["direct"] != "too many open files" {
			t.Errorf("got %+v, conditions %v", e, b.guard.conditions.all())
		}
		b.failing("look", nil)
		b.move(placed{id: 11, unit: "postfix.service", deep: true})
		if e := b.entry(0); len(e.CGroups) != 0 {
			t.Errorf("a control group that holds others as well is allowed: %+v", e)
		}
		b.condition("too deep")
	})
}

// As long as containers are not known, a user may be one's.
func TestAllowWithoutControlGroups(t *testing.T) {
	onDirectBed(t, []Allow{{UID: "33", Host: "203.0.113.7", Port: 25}}, func(b *directBed) {
		b.end()
		b.failing("open cgroups", errors.New("no cgroup2"))
		b.start()
		if e := b.entry(0); e.Owner != rules.CGroup0 || len(e.CGroups) != 0 {
			t.Errorf("got %+v", e)
		}
		b.condition("no cgroup2")
		b.failing("open cgroups", nil)
		time.Sleep(directInterval + time.Second)
		synctest.Wait()
		if e := b.entry(0); e.Owner != rules.SKUID || e.ID != 33 {
			t.Errorf("got %+v", e)
		}
		b.move(placed{id: 8, unit: "a.service"}, placed{id: 9, container: "c"})
		if got := b.inRules().Containers; !slices.Equal(got, []uint64{9}) {
			t.Errorf("containers %v", got)
		}
	})
}

func TestAllowUntil(t *testing.T) {
	synctestNow := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	entries := []Allow{
		{UID: "33", Host: "203.0.113.7", Port: 25, Until: synctestNow.Add(10*time.Minute + 3*time.Second)},
		{UID: "34", Host: "203.0.113.7", Port: 25},
	}
	onDirectBed(t, entries, func(b *directBed) {
		if n := len(b.inRules().Allow); n != 2 {
			t.Fatalf("%d entries", n)
		}
		time.Sleep(10*time.Minute + 2*time.Second)
		synctest.Wait()
		if n := len(b.inRules().Allow); n != 2 {
			t.Fatalf("%d entries before the time", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if e := b.entry(0); len(b.inRules().Allow) != 1 || e.ID != 34 {
			t.Errorf("after the time there are %+v", b.inRules().Allow)
		}
		b.condition("")
		s, err := b.guard.Status(t.Context())
		if err != nil || s.Allow[0].Error != errOver.Error() || s.Allow[1].Error != "" {
			t.Errorf("status %+v, %v", s.Allow, err)
		}
	})
}

func TestAllowAName(t *testing.T) {
	onDirectBed(t, []Allow{{UID: "33", Host: "smtp.example.com", Port: 587}}, func(b *directBed) {
		if e := b.entry(0); len(e.Networks) != 0 {
			t.Errorf("got %+v", e)
		}
		b.condition("the name has no address yet")
		b.resolve("smtp.example.com", "203.0.113.7", "2001:db8::7")
		b.condition("")
		if e := b.entry(0); !slices.Equal(e.Networks, networks("203.0.113.7/32", "2001:db8::7/128")) {
			t.Errorf("got %+v", e)
		}
		b.resolve("smtp.example.com", "203.0.113.8")
		if e := b.entry(0); !slices.Equal(e.Networks, networks("203.0.113.7/32", "203.0.113.8/32", "2001:db8::7/128")) {
			t.Errorf("the old addresses have no grace: %+v", e)
		}
		time.Sleep(Grace)
		synctest.Wait()
		if e := b.entry(0); !slices.Equal(e.Networks, networks("203.0.113.8/32")) {
			t.Errorf("after the grace: %+v", e)
		}
		// Whoever answers for the name opens no way to this host, and hinders no
		// change of the rules.
		b.resolve("smtp.example.com", "127.0.0.1", "224.0.0.1", "fe80::1", "::1", "203.0.113.9")
		time.Sleep(Grace)
		synctest.Wait()
		if e := b.entry(0); !slices.Equal(e.Networks, networks("203.0.113.9/32")) {
			t.Errorf("got %+v", e)
		}
	})
}

// A guard that starts anew goes on with what an earlier one found.
func TestAllowANameOverARestart(t *testing.T) {
	entry := Allow{UID: "33", Host: "smtp.example.com", Port: 587}
	onDirectBed(t, []Allow{entry}, func(b *directBed) {
		b.end()
		b.allowed = map[string][]netip.AddrPort{entry.name(): endpoints("203.0.113.7:587"), "other": endpoints("203.0.113.8:587")}
		b.start()
		if e := b.entry(0); !slices.Equal(e.Networks, networks("203.0.113.7/32")) {
			t.Errorf("got %+v", e)
		}
		b.condition("")
	})
}

func TestAllowReload(t *testing.T) {
	one := Allow{UID: "33", Host: "one.example.com", Port: 587}
	two := Allow{UID: "34", Host: "two.example.com", Port: 587}
	onDirectBed(t, []Allow{one}, func(b *directBed) {
		b.resolve("one.example.com", "203.0.113.1")
		reload := func(entries ...Allow) error {
			o := b.options
			o.Allow = entries
			return b.guard.Reload(t.Context(), o)
		}
		b.failing("apply", errors.New("no memory"))
		if err := reload(two); err == nil {
			t.Fatal("no error")
		}
		b.failing("apply", nil)
		time.Sleep(2 * directInterval)
		if e := b.entry(0); e.ID != 33 || !slices.Equal(e.Networks, networks("203.0.113.1/32")) || len(b.inRules().Allow) != 1 {
			t.Errorf("after a reload that failed: %+v", b.inRules().Allow)
		}
		if err := reload(one, one); err == nil {
			t.Error("the same entry twice")
		}
		if err := reload(Allow{UID: "33", Host: "203.0.113.7", Port: 80}); err == nil {
			t.Error("a port that nobody looks at")
		}
		if err := reload(Allow{UID: "33", User: "root", Host: "203.0.113.7", Port: 25}); err == nil {
			t.Error("two owners")
		}
		if err := reload(two, one); err != nil {
			t.Fatal(err)
		}
		b.resolve("two.example.com", "203.0.113.2")
		if one, two := b.entry(1), b.entry(0); !slices.Equal(one.Networks, networks("203.0.113.1/32")) || !slices.Equal(two.Networks, networks("203.0.113.2/32")) {
			t.Errorf("got %+v and %+v", one, two)
		}
		if err := reload(); err != nil || len(b.inRules().Allow) != 0 || len(b.guard.direct.hosts) != 0 {
			t.Errorf("%v; without entries there are %+v, hosts %v", err, b.inRules().Allow, b.guard.direct.hosts)
		}
		synctest.Wait()
		if b.called("close cgroups") == 0 {
			t.Error("control groups are watched for nobody")
		}
	})
}

// Entries of the same owner and place have the same name whenever they are read,
// and others never, however they are written.
func TestAllowNames(t *testing.T) {
	seen := map[string]Allow{}
	for _, a := range []Allow{
		{User: "a", Host: "h", Port: 25}, {User: "a", Host: "h", Port: 587}, {Group: "a", Host: "h", Port: 25}, {Unit: "a", Host: "h", Port: 25},
		{UID: "1", Host: "h", Port: 25}, {User: "1", Host: "h", Port: 25}, {User: "a", Host: "g", Port: 25}, {User: "ä\x00}", Host: "h", Port: 25},
		{Unit: strings.Repeat("very-long-", 20) + ".service", Host: "h", Port: 25}, {Unit: "user@1000.service", Host: "h", Port: 25},
	} {
		name := a.name()
		if other, ok := seen[name]; ok {
			t.Errorf("%+v and %+v are both %q", a, other, name)
		}
		seen[name] = a
		again := a
		again.Until = time.Now()
		if again.name() != name {
			t.Errorf("%+v is %q and %q", a, name, again.name())
		}
		if _, err := rules.New(rules.Options{ProxyUID: proxyUID, Allow: []rules.Allow{a.ofNobody()}}); err != nil {
			t.Error(err)
		}
	}
}

// TestCGroupTree makes control groups that look like units and containers.
func TestCGroupTree(t *testing.T) {
	tree, err := openCGroupTree()
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	slice := fmt.Sprintf("smtpwalltest%d.slice", os.Getpid())
	id := strings.Repeat("0123456789abcdef", 4)
	var made []string
	mkdir := func(path string) uint64 {
		t.Helper()
		dir := filepath.Join(tree.mount, path)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		made = append(made, dir)
		s := search{tree: tree}
		ids, _ := s.ids(path, nil)
		return ids[0]
	}
	t.Cleanup(func() {
		for _, dir := range slices.Backward(made) {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		}
	})
	look := func() map[uint64]placed {
		t.Helper()
		all, err := tree.Look()
		if err != nil {
			t.Fatal(err)
		}
		byID := map[uint64]placed{}
		for _, p := range all {
			byID[p.id] = p
		}
		return byID
	}
	top := "/" + slice
	mkdir(top)
	look()
	drain(tree.Changed())
	service := mkdir(top + "/mta.service")
	select {
	case <-tree.Changed():
	case <-time.After(5 * time.Second):
		t.Fatal("nobody tells of a unit that has come")
	}
	scope := mkdir(top + "/docker-" + id + ".scope")
	inner := mkdir(top + "/mta.service/evil.service")
	mkdir(top + "/docker.service")
	mkdir(top + "/docker.service/docker")
	plain := mkdir(top + "/docker.service/docker/" + id)
	deepSlice := top
	for i := range 4 {
		deepSlice += fmt.Sprintf("/%s%d.slice", strings.TrimSuffix(slice, ".slice")+strings.Repeat("-x", i), i)
		mkdir(deepSlice)
	}
	level5 := func() uint64 { ids, _ := (&search{tree: tree}).ids(deepSlice, nil); return ids[0] }()
	mkdir(deepSlice + "/deep.service")
	found := look()
	for name, tt := range map[string]struct {
		id   uint64
		want placed
	}{
		"a service":                     {service, placed{service, "mta.service", "", false}},
		"a scope of a container":        {scope, placed{scope, "docker-" + id + ".scope", id, false}},
		"a container in its manager":    {plain, placed{plain, "docker.service", id, false}},
		"a unit below the deepest":      {level5, placed{level5, "deep.service", "", true}},
		"a name below a unit, anyone's": {inner, placed{}},
	} {
		if got := found[tt.id]; got != tt.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
	if unit, _ := peer.ParseCGroup(top + "/mta.service/evil.service"); unit != "mta.service" {
		t.Errorf("package peer takes it for %s", unit)
	}
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}
