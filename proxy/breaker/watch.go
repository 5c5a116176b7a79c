package breaker

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	shards      = 64
	maxPerShard = 2048 // identities; in all 131,072
	sweepEvery  = 10 * time.Minute
	sample      = 8 // how many are looked at to find one that was idle for long
)

// Watch knows what each identity did lately.
type Watch struct {
	seed   maphash.Seed
	clock  clock
	shards [shards]shard
}

// shard has the identities whose hash ends alike. They are known by the hash
// alone: of 100,000 two are taken for one with a chance of 1 in 3 billion.
type shard struct {
	mu         sync.Mutex
	rules      *rules
	identities map[uint64]*identity
	swept      uint32 // tick
	_          [24]byte
}

// New makes a Watch. Of two rules of one kind the latter counts; a kind without
// a rule is off.
func New(list []Rule) *Watch {
	watch := &Watch{seed: maphash.MakeSeed()}
	compiled := compile(list)
	for i := range watch.shards {
		watch.shards[i].rules = compiled
		watch.shards[i].identities = map[uint64]*identity{}
	}
	return watch
}

// Apply changes the rules. Counts go on where the window is the same (for
// senders, also the number); a kind whose rule changed may trip at once again.
func (w *Watch) Apply(list []Rule) {
	compiled := compile(list)
	for i := range w.shards {
		w.shards[i].apply(compiled)
	}
}

func (s *shard) apply(compiled *rules) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := range kinds {
		before, after := s.rules[at], compiled[at]
		if before == after || before != nil && after != nil && *before == *after {
			continue
		}
		for _, known := range s.identities {
			known.quiet[at] = 0
			if !same(before, after) {
				known.forget(at)
			}
		}
	}
	s.rules = compiled
}

// Sent counts a message that was accepted from an identity and returns the
// breakers that trip by it: usually none, and then it allocates nothing but
// what it newly knows of the identity.
//
// A breaker trips once, and then not again before its rule's For is over. What
// it tripped for does not count again; what comes after does, also meanwhile.
func (w *Watch) Sent(name string, now time.Time, message Message) (trips []Trip) {
	m, hash := w.clock.moment(now), maphash.String(w.seed, name)
	sender := uint32(0)
	if message.Sender != "" {
		sender = senderHash(w.seed, message.Sender)
	}
	recipients := narrow(message.Recipients)

	shard := &w.shards[hash%shards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	known := shard.identity(hash, m)
	if now, on := known.round(shard.rules, sendersAt, m); on && message.Sender != "" {
		count, why := known.senders.trip(now, sender)
		trips = known.tell(trips, now, Trip{Identity: name, Count: count, Why: why})
	}
	if now, on := known.round(shard.rules, identicalAt, m); on && message.Body != 0 && recipients > 0 {
		count, why := known.bodies.trip(now, message.Body, recipients)
		trips = known.tell(trips, now, Trip{Identity: name, Count: count, Why: why})
	}
	if now, on := known.round(shard.rules, burstAt, m); on && recipients > 0 {
		count, why := known.pace.trip(now, recipients)
		trips = known.tell(trips, now, Trip{Identity: name, Count: count, Why: why})
	}
	return trips
}

// Results counts what relays said about an identity's recipients: those that
// they took, and those that they refused for good, at once or later in a
// bounce. It returns the breakers that trip by it, as Sent does.
func (w *Watch) Results(name string, now time.Time, accepted, refused int) (trips []Trip) {
	if accepted <= 0 && refused <= 0 {
		return nil
	}
	m, hash := w.clock.moment(now), maphash.String(w.seed, name)
	shard := &w.shards[hash%shards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	known := shard.identity(hash, m)
	if now, on := known.round(shard.rules, refusedAt, m); on {
		count, why := known.replies.trip(now, narrow(accepted), narrow(refused))
		trips = known.tell(trips, now, Trip{Identity: name, Count: count, Why: why})
	}
	return trips
}

// identity finds the one of a hash, or begins to know it.
func (s *shard) identity(hash uint64, m moment) *identity {
	now := m.tick()
	if age(now, s.swept) >= ticks(sweepEvery) {
		s.sweep(now)
	}
	known := s.identities[hash]
	if known == nil {
		if len(s.identities) >= maxPerShard {
			s.dropOne()
		}
		known = new(identity)
		s.identities[hash] = known
	}
	known.last = max(known.last, now)
	return known
}

// sweep gives back what does not count any more.
func (s *shard) sweep(now uint32) {
	s.swept = now
	longest := s.rules.longest()
	for hash, known := range s.identities {
		if known.idle(now, longest) {
			delete(s.identities, hash)
		}
	}
}

// dropOne forgets, of a few, the identity that sent nothing for longest: a map
// is ranged over in no particular order.
func (s *shard) dropOne() {
	var oldest uint64
	last, seen := uint32(0), 0
	for hash, known := range s.identities {
		if seen == 0 || known.last < last {
			oldest, last = hash, known.last
		}
		if seen++; seen == sample {
			break
		}
	}
	delete(s.identities, oldest)
}
