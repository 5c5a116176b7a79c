package limit

import (
	"slices"
	"time"
)

// Claim is the room that one transaction holds in its budgets. The zero Claim
// is closed; Limiter.Begin opens it, Commit and Cancel close it. It may be used again,
// and then allocates nothing for the same number of budgets. It must not be copied.
type Claim struct {
	limiter  *Limiter
	identity string
	open     bool
	counted  [kinds]bool  // by a limit
	held     [kinds]int64 // by Counted
	entries  []*entry     // each once, in the order of locking
	lines    []line
	met      []recipient // recipients held, where a limit counts new ones
}

// line is one limit of one entry.
type line struct {
	entry  *entry
	limit  *Limit
	shared bool
	lost   int64 // demand that this claim has added
}

// recipient is one that a claim holds.
type recipient struct {
	digest uint64
	fresh  bool // it counted as new
}

// Begin opens a claim for an identity in these budgets, and holds nothing yet. A
// claim that is open is cancelled first. The budgets must not change until the claim is closed.
func (l *Limiter) Begin(c *Claim, identity string, budgets []Budget) {
	c.Cancel()
	former := c.entries
	if c.limiter != l {
		former = nil
	}
	c.limiter, c.identity, c.open = l, identity, true
	c.counted, c.held, c.met = [kinds]bool{}, [kinds]int64{}, c.met[:0]
	c.lines = c.lines[:0]
	for i := range budgets {
		if len(budgets[i].Limits) == 0 {
			continue
		}
		e := known(former, budgets[i].Key)
		if e == nil {
			e = l.entry(budgets[i].Key)
		}
		for j := range budgets[i].Limits {
			c.line(e, &budgets[i].Limits[j], budgets[i].Shared)
		}
	}
	c.order()
}

// Counts tells whether any limit of an open claim is over this: if not, Take
// and Return say and change nothing about it.
func (c *Claim) Counts(what Counted) bool { return c.open && int(what) < kinds && c.counted[what] }

// known looks for a key among the entries of the former transaction, which is
// most often of the same identity.
func known(entries []*entry, key string) *entry {
	for _, e := range entries {
		if e.key == key {
			return e
		}
	}
	return nil
}

// line adds a limit. Of two over the same in the same entry only the smaller
// says something: an identity's own limits and a budget may have one key.
func (c *Claim) line(e *entry, limit *Limit, shared bool) {
	if int(limit.Counted) >= kinds {
		return
	}
	c.counted[limit.Counted] = true
	for i := range c.lines {
		if l := &c.lines[i]; l.entry == e && l.limit.Counted == limit.Counted && l.limit.Window == limit.Window {
			if limit.Max < l.limit.Max {
				l.limit = limit
			}
			l.shared = l.shared && shared
			return
		}
	}
	c.lines = append(c.lines, line{entry: e, limit: limit, shared: shared})
}

// order makes the entries from the lines.
func (c *Claim) order() {
	c.entries = c.entries[:0]
	for i := range c.lines {
		e := c.lines[i].entry
		at := len(c.entries)
		for at > 0 && c.entries[at-1].order < e.order {
			at--
		}
		if at > 0 && c.entries[at-1] == e {
			continue
		}
		c.entries = slices.Insert(c.entries, at, e)
	}
}

// lock locks all entries. One that was dropped since is looked up again; it
// cannot have been where the claim holds something.
func (c *Claim) lock() {
	for {
		gone := false
		for _, e := range c.entries {
			e.mu.Lock()
			gone = gone || e.gone
		}
		if !gone {
			return
		}
		c.unlock()
		for i := range c.lines {
			c.lines[i].entry = c.limiter.entry(c.lines[i].entry.key)
		}
		c.order()
	}
}

func (c *Claim) unlock() {
	for _, e := range c.entries {
		e.mu.Unlock()
	}
}

// Take claims an amount in all budgets, or, where one has no room, nothing in
// any; then it counts as refused by the limits that had none. A recipient is looked up
// among those to whom the identity has sent, if a limit counts new ones. A claim that is
// not open has room for everything.
func (c *Claim) Take(now time.Time, a Amount) Answer {
	if !c.open {
		return Answer{Room: true}
	}
	t := c.limiter.clock.at(now)
	n, who := c.amounts(a, t)
	c.lock()
	defer c.unlock()
	answer := c.ask(t, &n)
	if answer.Room {
		c.hold(t, &n, who)
		return answer
	}
	for i := range c.lines {
		l := &c.lines[i]
		if s := l.entry.of(l.limit, t); n[l.limit.Counted] > 0 && c.limiter.full(s, l.limit, n[l.limit.Counted], t) {
			c.refuse(l, s, n[l.limit.Counted])
		}
	}
	return answer
}

// Force claims without asking whether there is room.
func (c *Claim) Force(now time.Time, a Amount) {
	if !c.open {
		return
	}
	t := c.limiter.clock.at(now)
	n, who := c.amounts(a, t)
	c.lock()
	defer c.unlock()
	c.hold(t, &n, who)
}

// Refuse counts an amount, which is not held, as demand that was refused by every
// limit of the identity's own: for who refuses although there was room, as a rung
// below 100 per cent does.
func (c *Claim) Refuse(now time.Time, a Amount) {
	if !c.open {
		return
	}
	t := c.limiter.clock.at(now)
	n, _ := c.amounts(a, t)
	c.lock()
	defer c.unlock()
	for i := range c.lines {
		if l := &c.lines[i]; n[l.limit.Counted] > 0 && !l.shared {
			c.refuse(l, l.entry.of(l.limit, t), n[l.limit.Counted])
		}
	}
}

// refuse counts demand; the entry is locked. One claim adds a whole limit of it at
// most, and what is more than that by itself adds none: who sends one letter that
// is too large, or one to too many, does not go on trying.
func (c *Claim) refuse(l *line, s *series, n int64) {
	if n > l.limit.Max {
		return
	}
	if n = min(n, l.limit.Max-l.lost); n > 0 {
		l.lost += n
		s.add(lostCell, n)
		c.limiter.touch(l.entry)
	}
}

// Clears gives when an amount leaves the use of a limit of the claim at a share of
// it, in per cent, or below; zero if it never does. The limit is that of an Answer.
func (c *Claim) Clears(now time.Time, answer Answer, a Amount, share int) time.Time {
	t := c.limiter.clock.at(now)
	n, _ := c.amounts(a, t)
	c.lock()
	defer c.unlock()
	for i := range c.lines {
		l := &c.lines[i]
		if l.entry.key != answer.Key || *l.limit != answer.Limit {
			continue
		}
		part := *l.limit
		part.Max = part.Max * int64(share) / 100
		return c.limiter.opens(l.entry.of(l.limit, t), &part, max(n[part.Counted], 1), t)
	}
	return time.Time{}
}

// amounts gives what an amount is for each Counted, and the recipient if it is
// to be remembered.
func (c *Claim) amounts(a Amount, t int64) ([kinds]int64, recipient) {
	n := [kinds]int64{Messages: max(a.Messages, 0), Recipients: max(a.Recipients, 0), Bytes: max(a.Bytes, 0)}
	if !c.counted[NewRecipients] || a.Recipient == "" {
		return n, recipient{}
	}
	who := recipient{digest: digest(a.Recipient, c.limiter.seed)}
	if c.find(who.digest) < 0 && !c.limiter.hasSeen(c.identity, who.digest, t) {
		who.fresh = true
		n[NewRecipients] = 1
	}
	return n, who
}

// find gives where the claim holds a recipient, or -1.
func (c *Claim) find(digest uint64) int {
	for i := len(c.met) - 1; i >= 0; i-- {
		if c.met[i].digest == digest {
			return i
		}
	}
	return -1
}

// hold takes n from all series; the entries are locked.
func (c *Claim) hold(t int64, n *[kinds]int64, who recipient) {
	for i := range c.lines {
		limit := c.lines[i].limit
		if n[limit.Counted] > 0 {
			c.lines[i].entry.of(limit, t).pending += n[limit.Counted]
		}
	}
	for i := range n {
		c.held[i] += n[i]
	}
	if who.digest != 0 {
		c.met = append(c.met, who)
	}
}

// Return gives back a part of what the claim holds, and never more: a recipient
// that the relay refused, octets that did not come.
func (c *Claim) Return(a Amount) {
	if !c.open {
		return
	}
	n := [kinds]int64{Messages: max(a.Messages, 0), Recipients: max(a.Recipients, 0), Bytes: max(a.Bytes, 0)}
	if c.counted[NewRecipients] && a.Recipient != "" {
		if i := c.find(digest(a.Recipient, c.limiter.seed)); i >= 0 {
			if c.met[i].fresh {
				n[NewRecipients] = 1
			}
			c.met = slices.Delete(c.met, i, i+1)
		}
	}
	for i := range n {
		n[i] = min(n[i], c.held[i])
	}
	c.release(&n)
}

// Cancel gives back all that the claim holds, and closes it.
func (c *Claim) Cancel() {
	if !c.open {
		return
	}
	c.release(&c.held)
	c.close()
	for _, e := range c.entries {
		c.limiter.dropEmpty(e)
	}
}

// mostMet is how many recipients an idle claim keeps room for.
const mostMet = 64

func (c *Claim) close() {
	c.open = false
	if cap(c.met) > mostMet {
		c.met = nil
	}
}

// release ends the holding of n, which is part of what is held.
func (c *Claim) release(n *[kinds]int64) {
	if *n == ([kinds]int64{}) {
		return
	}
	c.lock()
	defer c.unlock()
	for i := range c.lines {
		limit := c.lines[i].limit
		if n[limit.Counted] > 0 {
			c.lines[i].entry.held(limit).pending -= n[limit.Counted]
		}
	}
	for i := range n {
		c.held[i] -= n[i]
	}
}

// Commit counts what the claim holds as used at this time, remembers its
// recipients, and closes it.
func (c *Claim) Commit(now time.Time) {
	if !c.open {
		return
	}
	defer c.close()
	t := c.limiter.clock.at(now)
	if c.held != ([kinds]int64{}) {
		c.commit(t)
	}
	if len(c.met) > 0 {
		c.limiter.meet(c.identity, c.met, t)
	}
}

func (c *Claim) commit(t int64) {
	c.lock()
	defer c.unlock()
	for i := range c.lines {
		e, limit := c.lines[i].entry, c.lines[i].limit
		n := c.held[limit.Counted]
		if n == 0 {
			continue
		}
		s := e.held(limit)
		s.advance(t)
		s.pending -= n
		s.add(0, n)
		c.limiter.touch(e)
	}
}

// full tells whether n does not fit into a limit.
func (l *Limiter) full(s *series, limit *Limit, n, t int64) bool {
	return s.used+s.pending+l.spent(limit, s.head, t) > limit.Max-n
}

// ask looks at all limits without changing what they count; the entries are locked.
func (c *Claim) ask(t int64, n *[kinds]int64) Answer {
	answer := Answer{Room: true}
	fullest, last := -1.0, int64(-1)
	for i := range c.lines {
		limit, e := c.lines[i].limit, c.lines[i].entry
		s := e.of(limit, t)
		want := n[limit.Counted]
		used := s.used + s.pending + c.limiter.spent(limit, s.head, t)
		use, demand := percent(used+want, limit.Max), percent(used+s.refused+want, limit.Max)
		if want == 0 { // one that was forced beyond its maximum refuses what it counts, not this
			use, demand = min(use, 100), min(demand, 100)
		}
		if c.lines[i].shared {
			answer.Others = max(answer.Others, use)
		} else {
			answer.Use, answer.Percent = max(answer.Use, use), max(answer.Percent, demand)
		}
		if want > 0 && used > limit.Max-want {
			at := s.opens(*limit, want, func(head int64) int64 { return c.limiter.spent(limit, head, t) })
			if later(at, last) {
				last = at
				answer.Key, answer.Limit, answer.Used = e.key, *limit, used
			}
			answer.Room = false
		} else if answer.Room && use > fullest {
			fullest = use
			answer.Key, answer.Limit, answer.Used = e.key, *limit, used
		}
	}
	if last > 0 {
		answer.Opens = c.limiter.clock.wall(last)
	}
	return answer
}

// later compares times of opening: 0 is never, -1 is none yet.
func later(at, than int64) bool { return than == -1 || than != 0 && (at == 0 || at > than) }

func percent(n, of int64) float64 {
	if of < 1 {
		return 100 * float64(n+1)
	}
	return 100 * float64(n) / float64(of)
}
