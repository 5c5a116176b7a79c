package lookup

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// maxRecords bounds what one message costs. A datagram of 1232 octets, which resolvers agree on, has room for 75.
	maxRecords = 128
	// maxAddresses of one message are noted, so that no message can sweep the table.
	maxAddresses = 32
	maxName      = 253 // RFC 1035, section 2.3.4, without the dot at the end
)

var (
	errNotAnAnswer     = errors.New("not a successful answer to a query")
	errQuestion        = errors.New("not one question for addresses")
	errName            = errors.New("the question's name is no host name")
	errTooManyRecords  = errors.New("too many records")
	errLengthOfAddress = errors.New("an address record of a wrong length")
)

// answer is what one message says: its question's name, and the addresses at the end of the chain of CNAMEs.
type answer struct {
	name      hostName
	addresses [maxAddresses]netip.Addr
	count     int
	ttl       time.Duration // the shortest on the way
}

// hostName is a name in lower case without its last dot, kept off the heap: most are known already.
type hostName struct {
	octets [255]byte
	length int
}

func (n *hostName) bytes() []byte { return n.octets[:n.length] }

// set takes a name over. RFC 4343: upper and lower case of ASCII are the same, and resolvers mix them on purpose.
func (n *hostName) set(name *dnsmessage.Name) {
	n.length = max(int(name.Length)-1, 0)
	for i := range n.length {
		c := name.Data[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		n.octets[i] = c
	}
}

// is compares with a name as it stands in a message.
func (n *hostName) is(name *dnsmessage.Name) bool {
	if n.length != int(name.Length)-1 {
		return false
	}
	for i := range n.length {
		c := name.Data[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if n.octets[i] != c {
			return false
		}
	}
	return true
}

// valid reports whether the name can be a host's. The parser has seen to the labels' lengths.
func (n *hostName) valid() bool {
	for _, c := range n.bytes() {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return n.length > 0 && n.length <= maxName
}

// parse reads a message as far as its answers go.
func parse(message []byte, a *answer) error {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil {
		return fmt.Errorf("reading a DNS answer: %w", err)
	}
	if !header.Response || header.OpCode != 0 || header.RCode != dnsmessage.RCodeSuccess {
		return errNotAnAnswer
	}
	question, err := p.Question()
	if err != nil {
		return fmt.Errorf("reading a DNS question: %w", err)
	}
	if err := p.SkipQuestion(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return errQuestion
	}
	if question.Class != dnsmessage.ClassINET || question.Type != dnsmessage.TypeA && question.Type != dnsmessage.TypeAAAA {
		return errQuestion
	}
	if a.name.set(&question.Name); !a.name.valid() {
		return errName
	}
	return a.walk(&p, question.Type)
}

// walk follows the chain from the question's name, in the order in which it stands there, as resolvers of the C
// library do. So it cannot go in circles, and records of other names are passed over.
func (a *answer) walk(p *dnsmessage.Parser, want dnsmessage.Type) error {
	current, ttl := a.name, uint32(1<<31-1)
	for range maxRecords {
		header, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			a.ttl = time.Duration(ttl) * time.Second
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a DNS record: %w", err)
		}
		ours := header.Class == dnsmessage.ClassINET && current.is(&header.Name)
		switch {
		case ours && header.Type == dnsmessage.TypeCNAME:
			var target dnsmessage.CNAMEResource
			if target, err = p.CNAMEResource(); err == nil {
				current.set(&target.CNAME)
			}
		case ours && header.Type == want:
			err = a.address(p, header)
		default:
			ours, err = false, p.SkipAnswer()
		}
		if err != nil {
			return fmt.Errorf("reading a DNS record: %w", err)
		}
		if ours {
			ttl = min(ttl, seconds(header.TTL))
		}
	}
	if _, err := p.AnswerHeader(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return errTooManyRecords
	}
	a.ttl = time.Duration(ttl) * time.Second
	return nil
}

// address notes one that a client could dial: a name that leads to the host itself is the host's, whoever says so.
func (a *answer) address(p *dnsmessage.Parser, header dnsmessage.ResourceHeader) error {
	var address netip.Addr
	if header.Type == dnsmessage.TypeA {
		record, err := p.AResource()
		if err != nil || header.Length != uint16(len(record.A)) {
			return errors.Join(errLengthOfAddress, err)
		}
		address = netip.AddrFrom4(record.A)
	} else {
		record, err := p.AAAAResource()
		if err != nil || header.Length != uint16(len(record.AAAA)) {
			return errors.Join(errLengthOfAddress, err)
		}
		address = netip.AddrFrom16(record.AAAA).Unmap()
	}
	if a.count == maxAddresses || address.IsLoopback() || address.IsUnspecified() || address.IsMulticast() {
		return nil
	}
	a.addresses[a.count] = address
	a.count++
	return nil
}

// seconds is a TTL as RFC 2181, section 8 reads it: with its highest bit set it is 0.
func seconds(ttl uint32) uint32 {
	if ttl >= 1<<31 {
		return 0
	}
	return ttl
}
