package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

// Count is a number of attempts of one kind: from one local owner, or from one
// forwarded source, to one destination. Where there are too many kinds for the
// kernel to keep apart, the destination is invalid, and then the cgroup is zero,
// or the source invalid.
type Count struct {
	// UID and CGroup, the id of a cgroup v2 directory, own the sockets; they
	// mean nothing if Forwarded.
	UID    uint32
	CGroup uint64
	// InInterface and Source are where forwarded packets came from; empty and
	// invalid unless Forwarded.
	Forwarded   bool
	InInterface string
	Source      netip.Addr
	Destination netip.AddrPort
	// Packets were refused, or in observe mode seen, since the last Read.
	Packets uint64
}

// Counts is what happened between two calls of Read.
type Counts struct {
	Counts []Count
	// OtherOut and OtherForward are packets without a Count: they had no
	// socket owner, or all of the kernel's sets were full, or just growing (the
	// kernel then refuses some of the new elements), or only the lock table
	// counted them.
	OtherOut, OtherForward uint64
}

// Total is the number of all packets.
func (c Counts) Total() uint64 {
	total := c.OtherOut + c.OtherForward
	for _, n := range c.Counts {
		total += n.Packets
	}
	return total
}

func (c *Counts) add(more Counts) {
	c.Counts = append(c.Counts, more.Counts...)
	c.OtherOut += more.OtherOut
	c.OtherForward += more.OtherForward
}

// AttemptCounters reads the counts that the rules keep in the kernel. Unlike the
// log they see every packet of a flood. One goroutine at a time may use it.
type AttemptCounters struct {
	socket   *socket
	table    *recordTable // of the last Read; nil before it, and without a table
	out, fwd direction
	lock     lockCounts
	unsent   Counts // read before an error
}

// OpenAttemptCounters opens a socket in the network namespace of the calling
// thread and takes what has been counted so far as zero. There need be no table
// yet; all counts of one that appears later are returned by Read.
func OpenAttemptCounters(ctx context.Context) (*AttemptCounters, error) {
	s, err := newSocket()
	if err != nil {
		return nil, err
	}
	c := &AttemptCounters{socket: s}
	c.reset()
	if _, err := c.Read(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("opening the attempt counters: %w", err)
	}
	c.out.forgive()
	c.fwd.forgive()
	return c, nil
}

// Close closes the socket.
func (c *AttemptCounters) Close() error { return c.socket.close() }

// maxDumps bounds how often a table that is replaced while we read is read anew.
const maxDumps = 4

// Read returns what was counted since the last Read. Where the table, a set or a
// counter was replaced meanwhile, counting begins anew: what the old one counted
// after the last Read is lost. Without a table there are no counts, but for
// those of the lock. It takes about 0.1 ms when nothing happened, and about
// 20 µs for each element of a set that changed.
//
// After an error the next Read returns what this one had read. A reading that
// was begun is finished even if ctx ends: the kernel's answer to a dump must be
// read to its end before the socket is of use again.
func (c *AttemptCounters) Read(ctx context.Context) (Counts, error) {
	if ctx.Err() != nil {
		return Counts{}, ctx.Err()
	}
	ctx = context.WithoutCancel(ctx)
	counts, err := c.readTable(ctx)
	c.unsent.add(counts)
	if err != nil {
		return Counts{}, fmt.Errorf("reading the attempts: %w", err)
	}
	out, forward, err := c.lock.read(ctx, c.socket)
	if err != nil {
		return Counts{}, err
	}
	c.unsent.add(Counts{OtherOut: out, OtherForward: forward})
	counts, c.unsent = c.unsent, Counts{}
	return counts, nil
}

// readTable reads the plain table, again if it is replaced meanwhile. There may
// be counts as well as an error.
func (c *AttemptCounters) readTable(ctx context.Context) (Counts, error) {
	for range maxDumps {
		begun := time.Now()
		before, err := readRecordTable(ctx, c.socket)
		if err != nil {
			return Counts{}, err
		}
		if before == nil {
			c.reset()
			return Counts{}, nil
		}
		if c.table == nil || !maps.Equal(before.identity, c.table.identity) {
			c.reset()
		}
		c.table = before
		out, fwd := c.out.changed(begun, before.totals[rules.CounterOut]), c.fwd.changed(begun, before.totals[rules.CounterForward])
		if !out && !fwd {
			return Counts{}, nil
		}
		counts, err := c.readChanged(ctx, before, out, fwd)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return counts, err
		}
		after, err := readRecordTable(ctx, c.socket)
		if err != nil || after != nil && maps.Equal(before.identity, after.identity) {
			return counts, err
		}
		c.reset() // what was read may be of both tables
	}
	return Counts{}, fmt.Errorf("the table was replaced %d times meanwhile", maxDumps)
}

func (c *AttemptCounters) reset() {
	c.table = nil
	c.out = newDirection(rules.SetAttempt4, rules.SetAttempt6, rules.SetAttemptOwner, rules.SetAttemptUser)
	c.fwd = newDirection(rules.SetForward4, rules.SetForward6, rules.SetForwardIn)
}

// readChanged reads the sets of a direction only if they have to be.
func (c *AttemptCounters) readChanged(ctx context.Context, t *recordTable, out, fwd bool) (Counts, error) {
	var counts Counts
	var err error
	take := func(n Count) { counts.Counts = append(counts.Counts, n) }
	if out {
		if counts.OtherOut, err = c.out.read(ctx, c.socket, t.totals[rules.CounterOut], take); err != nil {
			return counts, err
		}
	}
	if fwd {
		counts.OtherForward, err = c.fwd.read(ctx, c.socket, t.totals[rules.CounterForward], take)
	}
	return counts, err
}

// countOf reads a key as package rules describes it.
func countOf(set string, key elementKey) Count {
	b := key[:]
	var c Count
	next := func(n int) []byte { part := b[:n]; b = b[n:]; return part }
	addr := func(n int) netip.Addr { a, _ := netip.AddrFromSlice(next(n)); return a }
	c.Forwarded = set == rules.SetForward4 || set == rules.SetForward6 || set == rules.SetForwardIn
	if c.Forwarded {
		c.InInterface = text(next(unix.IFNAMSIZ))
	} else {
		c.UID = binary.NativeEndian.Uint32(next(4))
	}
	if set == rules.SetAttempt4 || set == rules.SetAttempt6 || set == rules.SetAttemptOwner {
		c.CGroup = binary.NativeEndian.Uint64(next(8))
	}
	size := 0
	switch set {
	case rules.SetAttempt4, rules.SetForward4:
		size = 4
	case rules.SetAttempt6, rules.SetForward6:
		size = 16
	default:
		return c
	}
	if c.Forwarded {
		c.Source = addr(size)
	}
	to := addr(size)
	c.Destination = netip.AddrPortFrom(to, binary.BigEndian.Uint16(next(2)))
	return c
}
