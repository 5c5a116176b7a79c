package limit

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// naive counts as limits are defined, by going through all that ever was.
type naive struct {
	now     time.Time // the latest that was told
	commits []counted
	refused []counted
	pending map[string]*[kinds]int64 // by key
}

// counted is n of something at a time, under a key.
type counted struct {
	key  string
	kind Counted
	n    int64
	at   time.Time
}

// sum gives what a list has within a window that ends now, its slots whole, or
// with exact moments.
func sum(list []counted, key string, limit Limit, now time.Time, slotted bool) int64 {
	length := limit.Window / slots
	total := int64(0)
	for _, c := range list {
		if c.key != key || c.kind != limit.Counted {
			continue
		}
		gone := c.at.Add(limit.Window)
		if slotted {
			gone = time.Unix(0, c.at.UnixNano()/int64(length)*int64(length)).Add(length + limit.Window)
		}
		if now.Before(gone) {
			total += c.n
		}
	}
	return total
}

// used gives what counts for a limit: what is committed and what is claimed.
func (m *naive) used(key string, limit Limit) int64 {
	return sum(m.commits, key, limit, m.now, true) + m.claimed(key)[limit.Counted]
}

func (m *naive) claimed(key string) *[kinds]int64 {
	if m.pending[key] == nil {
		m.pending[key] = &[kinds]int64{}
	}
	return m.pending[key]
}

// player is a Limiter and the naive one, and the claims that are open in both.
type player struct {
	t      *testing.T
	random *rand.Rand
	l      *Limiter
	store  *failing
	m      naive
	open   []*playedClaim
	room   int // answers with room
	none   int // without
}

type playedClaim struct {
	lost    map[string]int64 // demand that it has added, by key, window and what is counted
	claim   Claim
	budgets []Budget
	held    [kinds]int64
}

var modelWindows = []time.Duration{time.Second, time.Minute, 90 * time.Minute, 24 * time.Hour, 30 * 24 * time.Hour}

// budgets gives some of three keys, each with limits that do not change.
func modelBudgets(random *rand.Rand) []Budget {
	var budgets []Budget
	for _, key := range []string{"uid:1", "unit:a", "host"} {
		b := Budget{Key: key}
		for range random.IntN(3) {
			b.Limits = append(b.Limits, Limit{[]Counted{Messages, Recipients, Bytes}[random.IntN(3)], 1 + random.Int64N(40), modelWindows[random.IntN(len(modelWindows))]})
		}
		budgets = append(budgets, b)
	}
	return budgets
}

// TestModel plays the limiter against the naive one: it never lets more through
// than a limit's maximum in any window, never refuses where the last window and one
// slot have room, says rightly when it opens, gives all back that is cancelled, and
// knows all of it after a restart.
func TestModel(t *testing.T) {
	room, none := 0, 0
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 4))
		p := &player{t: t, random: random, store: &failing{kept: map[string][]byte{}}, m: naive{now: start, pending: map[string]*[kinds]int64{}}}
		p.l = on(t, p.store)
		all := modelBudgets(random)
		for range 200 {
			p.step(all)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		p.neverOver(all)
		room, none = room+p.room, none+p.none
	}
	t.Logf("%d answers with room, %d without", room, none)
	if room < 10_000 || none < 2000 {
		t.Errorf("too few answers to mean anything: %d with room, %d without", room, none)
	}
}

func (p *player) step(all []Budget) {
	switch op := p.random.IntN(10); {
	case op < 2:
		p.goOn()
	case op < 4 && len(p.open) < 4:
		c := &playedClaim{budgets: all}
		if p.random.IntN(3) == 0 {
			c.budgets = all[p.random.IntN(len(all)):]
		}
		p.l.Begin(&c.claim, "uid:1", c.budgets)
		p.open = append(p.open, c)
	case len(p.open) == 0:
		p.restart()
	case op < 8:
		p.take(p.open[p.random.IntN(len(p.open))])
	default:
		p.end(p.random.IntN(len(p.open)))
	}
}

// goOn lets the time go on, mostly by little; at times it is told as a little earlier.
func (p *player) goOn() {
	step := time.Duration(p.random.Int64N(int64(modelWindows[p.random.IntN(len(modelWindows))])))
	if p.random.IntN(2) == 0 {
		step /= 64
	}
	p.m.now = p.m.now.Add(step)
	p.l.clock.at(p.m.now)
}

// restart saves and loads all, or drops what says nothing.
func (p *player) restart() {
	if p.random.IntN(2) == 0 {
		for range sweepParts {
			p.l.sweep()
		}
	}
	if err := p.l.flush(); err != nil {
		p.t.Error(err)
	}
	p.l = on(p.t, p.store)
}

// tell gives the time as the callers say it, which may be late.
func (p *player) tell() time.Time {
	if p.random.IntN(4) == 0 {
		return p.m.now.Add(-time.Duration(p.random.Int64N(int64(time.Millisecond))))
	}
	return p.m.now
}

func (p *player) take(c *playedClaim) {
	var a Amount
	switch p.random.IntN(4) {
	case 0:
		a.Messages = 1
	case 1:
		a.Recipients = 1 + p.random.Int64N(8)
	case 2:
		a.Bytes = p.random.Int64N(12)
	case 3:
		p.giveBack(c)
		return
	}
	n := [kinds]int64{Messages: a.Messages, Recipients: a.Recipients, Bytes: a.Bytes}
	answer := c.claim.Take(p.m.now, a)
	if p.check(c, n, answer); !answer.Room {
		p.none++
		return
	}
	p.room++
	for i := range n {
		c.held[i] += n[i]
		for _, b := range c.budgets {
			p.m.claimed(b.Key)[i] += n[i]
		}
	}
}

func (p *player) giveBack(c *playedClaim) {
	n := p.random.Int64N(c.held[Recipients] + 1)
	c.claim.Return(Amount{Recipients: n})
	c.held[Recipients] -= n
	for _, b := range c.budgets {
		p.m.claimed(b.Key)[Recipients] -= n
	}
}

// check compares an answer with what the definition says.
func (p *player) check(c *playedClaim, n [kinds]int64, answer Answer) {
	p.t.Helper()
	room, opens := true, time.Time{}
	never := false
	refused := map[counted]bool{} // two limits over the same count once
	for _, b := range c.budgets {
		for _, limit := range b.Limits {
			want := n[limit.Counted]
			if want == 0 || p.m.used(b.Key, limit)+want <= limit.Max {
				continue
			}
			room = false
			if !p.refusedRightly(b.Key, limit, want) {
				p.t.Errorf("%s %v: refused %d with room in the last window and one slot", b.Key, limit, want)
			}
			if once := (counted{b.Key, limit.Counted, int64(limit.Window), time.Time{}}); !refused[once] {
				refused[once] = true
				p.refuse(c, b.Key, limit, want)
			}
			at := p.opens(b.Key, limit, want)
			never = never || at.IsZero()
			if at.After(opens) {
				opens = at
			}
		}
	}
	if never {
		opens = time.Time{}
	}
	if answer.Room != room || !answer.Opens.Equal(opens) && !(answer.Opens.IsZero() && opens.IsZero()) {
		p.t.Errorf("%v: %+v, want room %v, opens %v", n, answer, room, opens)
	}
}

// refuse counts demand as the limiter shall: not what is beyond a whole limit, and
// a whole limit of one claim at most.
func (p *player) refuse(c *playedClaim, key string, limit Limit, want int64) {
	most := limit.Max
	for _, b := range c.budgets {
		for _, other := range b.Limits {
			if b.Key == key && other.Counted == limit.Counted && other.Window == limit.Window {
				most = min(most, other.Max)
			}
		}
	}
	name := key + limit.Window.String() + limit.Counted.String()
	if want > most {
		return
	}
	want = min(want, most-c.lost[name])
	if c.lost == nil {
		c.lost = map[string]int64{}
	}
	c.lost[name] += want
	p.m.refused = append(p.m.refused, counted{key + limit.Window.String(), limit.Counted, want, p.m.now})
}

// refusedRightly tells whether even by exact moments, over a window and a slot, there
// is no room.
func (p *player) refusedRightly(key string, limit Limit, want int64) bool {
	longer := limit
	longer.Window += limit.Window / slots
	return sum(p.m.commits, key, longer, p.m.now, false)+p.m.claimed(key)[limit.Counted]+want > limit.Max
}

// opens goes from slot to slot until there is room.
func (p *player) opens(key string, limit Limit, want int64) time.Time {
	if want > limit.Max {
		return time.Time{}
	}
	length := int64(limit.Window) / slots
	was := p.m.now
	defer func() { p.m.now = was }()
	for slot := was.UnixNano()/length + 1; ; slot++ {
		p.m.now = time.Unix(0, slot*length)
		claimed := p.m.claimed(key)[limit.Counted]
		if !p.m.now.Before(time.Unix(0, was.UnixNano()/length*length).Add(limit.Window + time.Duration(length))) {
			claimed = 0 // committed by now, and gone
		}
		if sum(p.m.commits, key, limit, p.m.now, true)+claimed+want <= limit.Max {
			return p.m.now
		}
	}
}

func (p *player) end(i int) {
	c := p.open[i]
	p.open = append(p.open[:i], p.open[i+1:]...)
	commit := p.random.IntN(3) > 0
	for _, b := range c.budgets {
		for kind, n := range c.held {
			p.m.claimed(b.Key)[kind] -= n
			if commit && n > 0 {
				p.m.commits = append(p.m.commits, counted{b.Key, Counted(kind), n, p.m.now})
			}
		}
	}
	if commit {
		c.claim.Commit(p.tell())
	}
	c.claim.Cancel()
}

// neverOver looks at the window that ends at each commit, by exact moments, and
// compares the states at the end.
func (p *player) neverOver(all []Budget) {
	for _, b := range all {
		for _, limit := range b.Limits {
			for _, c := range p.m.commits {
				if c.key != b.Key {
					continue
				}
				var before []counted
				for _, other := range p.m.commits {
					if !other.at.After(c.at) {
						before = append(before, other)
					}
				}
				if n := sum(before, b.Key, limit, c.at, false); n > limit.Max {
					p.t.Errorf("%s %v: %d in the window that ends at %v", b.Key, limit, n, c.at)
				}
			}
		}
	}
	for _, state := range p.l.State("uid:1", all, p.m.now) {
		refused := sum(p.m.refused, state.Key+state.Limit.Window.String(), state.Limit, p.m.now, true)
		if want := p.m.used(state.Key, state.Limit); state.Used != want || state.Refused != refused {
			p.t.Errorf("%s %v: used %d, refused %d, want %d and %d", state.Key, state.Limit, state.Used, state.Refused, want, refused)
		}
	}
}

func TestCancelGivesAllBack(t *testing.T) {
	l := open(t)
	budgets := fourBudgets("uid:33")
	for round := range 100 {
		var c Claim
		l.Begin(&c, "uid:33", budgets)
		for i := range 5 {
			c.Take(start, Amount{Messages: 1, Recipients: int64(i), Bytes: 10, Recipient: fmt.Sprintf("%d@example.com", i)})
		}
		c.Force(start, Amount{Bytes: 100})
		c.Return(Amount{Recipients: int64(round), Recipient: "3@example.com"})
		c.Cancel()
		c.Commit(start) // too late
	}
	for _, state := range l.State("uid:33", budgets, start) {
		if state.Used != 0 || state.Refused != 0 {
			t.Errorf("%+v", state)
		}
	}
}
