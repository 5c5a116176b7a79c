package limit

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// loader takes in what a store gives.
type loader struct {
	*Limiter
	raised    map[string]raise
	suspended map[string]Suspension
	seeded    bool // the seed was among it
}

// load reads the store. Of a damaged one it keeps who is suspended or raised,
// as far as that could be read, and no count.
func (l *Limiter) load() error {
	if l.store == nil {
		return nil
	}
	from := loader{Limiter: l, raised: map[string]raise{}, suspended: map[string]Suspension{}}
	err := l.store.Load(from.record)
	l.raises.change(func(m map[string]raise) { maps.Copy(m, from.raised) })
	l.suspensions.change(func(m map[string]Suspension) { maps.Copy(m, from.suspended) })
	switch {
	case errors.Is(err, ErrDamaged):
		l.mistrust(err)
	case err != nil:
		return err
	case !from.seeded:
		l.note(seedRecord, encodeNumber(int64(l.seed)))
	}
	l.saveMu.Lock()
	defer l.saveMu.Unlock()
	if _, ok := l.store.(replacer); ok {
		l.takeNotes() // they are among all that is written now
		l.outcome(l.replace(err))
	} else {
		_ = l.save(l.takeNotes())
	}
	return nil
}

// mistrust forgets the counts that were read, and begins at the tightest state.
func (l *Limiter) mistrust(cause error) {
	l.logger.Error("the limits store is damaged; all limits begin as if used up", zap.Error(cause))
	for i := range l.shards {
		clear(l.shards[i].entries)
		clear(l.shards[i].seen)
	}
	l.count.Store(0)
	l.seenAll.Store(0)
	l.clock.last.Store(0) // counts that it dated are gone
	l.tight.since.Store(unresolved)
	l.note(tightRecord, encodeNumber(unresolved))
}

// record takes one in. An error is that it cannot be one of ours.
func (l *loader) record(key string, value []byte) error {
	var err error
	switch {
	case strings.HasPrefix(key, counterRecord):
		err = l.counter(key[len(counterRecord):], value)
	case strings.HasPrefix(key, circleRecord):
		err = l.ring(key[len(circleRecord):], value)
	case strings.HasPrefix(key, suspensionRecord):
		err = readJSON(l.suspended, key[len(suspensionRecord):], value)
	case strings.HasPrefix(key, raiseRecord):
		err = readJSON(l.raised, key[len(raiseRecord):], value)
	default:
		err = l.number(key, value)
	}
	if err != nil {
		return fmt.Errorf("%w: reading record %q: %w", ErrDamaged, key, err)
	}
	return nil
}

func (l *loader) number(key string, value []byte) error {
	n, err := decodeNumber(value)
	switch key {
	case clockRecord:
		l.clock.last.Store(n)
	case tightRecord:
		l.tight.since.Store(n)
	case seedRecord:
		l.seed, l.seeded = uint64(n), true
	default:
		return errors.New("it is of no kind that is known")
	}
	return err
}

func (l *loader) counter(key string, value []byte) error {
	e, err := decodeEntry(key, value)
	if err != nil {
		return err
	}
	e.order = l.orders.Add(1)
	l.count.Add(1)
	l.shard(key).entries[key] = e
	return nil
}

func (l *loader) ring(key string, value []byte) error {
	end := max(strings.LastIndexByte(key, 0), 0)
	identity := key[:end]
	index, err := strconv.Atoi(strings.TrimPrefix(key[end:], "\x00"))
	if err != nil || index < 0 || index >= mostRings || len(value)%8 != 0 {
		return errors.New("it is no ring")
	}
	s := l.shard(identity)
	c := s.seen[identity]
	if c == nil {
		c = &circle{identity: identity, rings: make([]ring, 1)}
		s.seen[identity] = c
	}
	for index >= len(c.rings) {
		c.rings = append(c.rings, make([]ring, len(c.rings))...)
	}
	for ; len(value) > 0; value = value[8:] {
		c.rings[index].members = append(c.rings[index].members, acquaintance(binary.LittleEndian.Uint64(value)))
		c.size++
		l.seenAll.Add(1)
	}
	return nil
}

func readJSON[T any](m map[string]T, key string, value []byte) error {
	var v T
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	m[key] = v
	return nil
}
