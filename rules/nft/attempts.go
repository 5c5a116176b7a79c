package nft

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Attempt is one connection attempt that the rules logged: the first packet of
// a connection that is blocked, or that would be in observe mode.
type Attempt struct {
	// Time is when it was read: the kernel stamps no packet that leaves.
	Time time.Time
	// UID owns the socket that sent the packet; only if HasUID.
	UID    uint32
	HasUID bool
	// Source and Destination as the packet has them, before any address
	// translation of what is forwarded.
	Source, Destination netip.AddrPort
	// Forwarded tells that the packet came in by InInterface, for instance
	// from a container, and was to leave again. It has no UID then.
	Forwarded   bool
	InInterface string
	// Prefix is the text of the rule that logged it.
	Prefix string
}

// AttemptReader reads attempts as they are made. It sees as many as the rules' rate
// limit lets through, in detail; AttemptCounters sees all, as counts. One goroutine
// at a time may use it, but for Lost and Close.
type AttemptReader struct {
	log   *nflogReader
	links *linkNames
}

// OpenAttempts binds to an NFLOG group in the network namespace of the calling
// thread. It fails while another program reads the same group.
func OpenAttempts(group uint16) (*AttemptReader, error) {
	links, err := openLinkNames()
	if err != nil {
		return nil, err
	}
	// Headers only: no octet of anybody's mail.
	log, err := openNflog(group, delivery{copyRange: 256, threshold: 32})
	if err != nil {
		return nil, errors.Join(err, links.close())
	}
	return &AttemptReader{log: log, links: links}, nil
}

// Read waits for the next attempts, 10 ms at most after the first of them was
// made. It returns the context's error when that is done.
func (r *AttemptReader) Read(ctx context.Context) ([]Attempt, error) {
	var attempts []Attempt
	err := r.log.receive(ctx, func(p nflogPacket) {
		a, err := attemptOf(p)
		if err != nil {
			r.log.lost.Add(1)
			return
		}
		a.Time = time.Now()
		a.InInterface = r.links.name(p.inIndex)
		attempts = append(attempts, a)
	})
	return attempts, err
}

// Lost returns how many logged attempts Read did not return since the reader was
// opened: the receive buffer was full, or they made no sense. A packet can be
// made so: not being logged in detail is all that its sender gains.
func (r *AttemptReader) Lost() uint64 { return r.log.lost.Load() }

// Close gives the group back and ends a Read under way.
func (r *AttemptReader) Close() error { return errors.Join(r.log.close(), r.links.close()) }

func attemptOf(p nflogPacket) (Attempt, error) {
	src, dst, err := parsePacket(p.payload)
	if err != nil {
		return Attempt{}, err
	}
	return Attempt{
		UID:         p.uid,
		HasUID:      p.hasUID,
		Source:      src,
		Destination: dst,
		Forwarded:   p.hook == hookForward,
		Prefix:      p.prefix,
	}, nil
}
