package limit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Records by the first letters of their key.
const (
	counterRecord    = "c/" // key of the entry
	circleRecord     = "r/" // identity, zero octet, number of the ring
	suspensionRecord = "s/" // key suspended
	raiseRecord      = "u/" // identity raised
	clockRecord      = "m/clock"
	tightRecord      = "m/tight"
	seedRecord       = "m/seed"
)

// version is the first octet of a counter's record.
const version = 1

func encodeNumber(n int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }

func decodeNumber(value []byte) (int64, error) {
	if len(value) != 8 {
		return 0, fmt.Errorf("%d octets for a number", len(value))
	}
	return int64(binary.LittleEndian.Uint64(value)), nil
}

// encode gives the entry's record: what is used and refused, not what is
// pending; nil if nothing is. Its lock is held.
func (e *entry) encode() []byte {
	b := []byte{version}
	if !slices.ContainsFunc(e.series, func(s series) bool { return len(s.cells) > 0 }) {
		return nil
	}
	for i := range e.series {
		s := &e.series[i]
		b = append(b, byte(s.counted))
		b = binary.AppendUvarint(b, uint64(s.window))
		b = binary.AppendUvarint(b, uint64(s.head))
		b = binary.AppendUvarint(b, uint64(len(s.cells)))
		for _, c := range s.cells {
			b = append(b, byte(c.age(s.head)))
			b = binary.AppendUvarint(b, uint64(c)&(1<<(cellBits+2)-1))
		}
	}
	return b
}

// decoder reads numbers until the first that is not there.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) octet() byte {
	if len(d.rest) == 0 {
		d.err = errShort
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) number(most uint64) uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > most {
		d.err, d.rest = errShort, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

var errShort = errors.New("record ends too soon, or a number is too large")

func decodeEntry(key string, value []byte) (*entry, error) {
	d := decoder{rest: value}
	if v := d.octet(); v != version {
		return nil, fmt.Errorf("record of version %d", v)
	}
	e := &entry{key: key, stored: true}
	for len(d.rest) > 0 && d.err == nil {
		e.series = append(e.series, d.series())
	}
	return e, d.err
}

func (d *decoder) series() series {
	s := series{counted: Counted(d.octet()), window: time.Duration(d.number(1 << 62))}
	s.head = int64(d.number(1 << 62))
	length := d.number(4 * (slots + 1))
	if int(s.counted) >= kinds || s.window < 1 || s.head > (1<<62)/slotLength(s.window) {
		d.err = errShort
		return s
	}
	s.end = (s.head + 1) * slotLength(s.window)
	s.cells = make([]cell, 0, length)
	for range length {
		age := int64(d.octet())
		c := cell(d.number(1<<(cellBits+2) - 1))
		if d.err != nil || age > slots {
			d.err = errShort
			return s
		}
		c = makeCell(s.head-age, c.kind(), int64(c&cellMask))
		s.cells = append(s.cells, c)
		if c.refused() {
			s.refused += c.count()
		} else {
			s.used += c.count()
		}
	}
	return s
}

func ringKey(identity string, index int) string {
	return circleRecord + identity + "\x00" + strconv.Itoa(index)
}

func (r *ring) encode() []byte {
	var b []byte
	for _, a := range r.members {
		b = binary.LittleEndian.AppendUint64(b, uint64(a))
	}
	return b
}

// mostRings is more than a circle of the largest size has.
const mostRings = 1 << 12
