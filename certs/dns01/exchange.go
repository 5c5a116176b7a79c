package dns01

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// exchangeTime is how long a server may take to make an update durable.
	exchangeTime = 10 * time.Second
	// fudge is by how many seconds the clocks may differ (RFC 8945 section 10).
	fudge = 300
)

var errNoAnswer = errors.New("it takes too long")

// exchange sends one signed message and gives the reply: one that the key
// signed, or one that says no.
func (u Update) exchange(ctx context.Context, message *dns.Msg) (*dns.Msg, error) {
	key, err := newKey(u.KeyName, u.Algorithm, u.Key)
	if err != nil {
		return nil, err
	}
	server, err := endpoint(u.Server)
	if err != nil {
		return nil, err
	}
	message.SetTsig(key.name, key.algorithm, fudge, time.Now().Unix())
	question, mac, err := dns.TsigGenerateWithProvider(message, key, "", false)
	if err != nil {
		return nil, fmt.Errorf("signing for the server %s: %w", u.Server, err)
	}
	raw, err := overTCP(ctx, server, question)
	if err != nil {
		return nil, fmt.Errorf("the server %s does not answer: %w; is its address right, and its TCP port open to this host?", u.Server, err)
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(raw); err != nil {
		return nil, fmt.Errorf("the server %s answers what is not DNS: %w", u.Server, err)
	}
	if !answers(reply, message) {
		return nil, fmt.Errorf("the server %s answers something else than it was asked", u.Server)
	}
	if signature := reply.IsTsig(); signature != nil && signature.Error != dns.RcodeSuccess {
		return nil, u.keyRefusal(signature, message)
	}
	if err := u.signed(key, mac, reply, raw); err != nil {
		return nil, err
	}
	return reply, nil
}

// signed fails for a yes without a signature, and for a signature of others.
func (u Update) signed(key key, mac string, reply *dns.Msg, raw []byte) error {
	signature := reply.IsTsig()
	switch {
	case signature == nil && reply.Rcode == dns.RcodeSuccess:
		return fmt.Errorf("the server %s answers without a signature: whatever answers there is not trusted", u.Server)
	case signature == nil:
		return nil
	case reply.Rcode == dns.RcodeNotAuth: // the library verifies none of these
		return nil
	}
	err := dns.TsigVerifyWithProvider(raw, key, mac, false)
	if errors.Is(err, dns.ErrTime) {
		return u.skew(time.Unix(int64(signature.TimeSigned), 0))
	}
	if err != nil {
		return fmt.Errorf("the signature on the answer of the server %s is not of the key %s (%w): whatever answers there is not trusted", u.Server, u.KeyName, err)
	}
	return nil
}

// keyRefusal words what a server says against a signature (RFC 8945 section 5.2).
func (u Update) keyRefusal(signature *dns.TSIG, message *dns.Msg) error {
	switch signature.Error {
	case dns.RcodeBadKey:
		algorithm := u.Algorithm
		if algorithm == "" {
			algorithm = defaultAlgorithm
		}
		remedy := "name the key and its algorithm as the server has them"
		if len(message.Ns) > 0 { // Knot says so of a key that is not allowed, too
			remedy += ", and allow the key to update TXT at " + plain(message.Ns[0].Header().Name)
		}
		return fmt.Errorf("the server %s does not take the key %s with %s (BADKEY): %s", u.Server, u.KeyName, algorithm, remedy)
	case dns.RcodeBadSig:
		return fmt.Errorf("the server %s does not accept the signature of the key %s (BADSIG): the secret is not the one that the server has", u.Server, u.KeyName)
	case dns.RcodeBadTime:
		// RFC 8945 section 5.2.3: the server's time in 48 bits.
		if other, err := hex.DecodeString(signature.OtherData); err == nil && len(other) == 6 {
			return u.skew(time.Unix(int64(binary.BigEndian.Uint64(append([]byte{0, 0}, other...))), 0))
		}
		return u.skew(time.Time{})
	}
	return fmt.Errorf("the server %s does not accept the signature of the key %s (%s)", u.Server, u.KeyName, rcodeName(int(signature.Error)))
}

func (u Update) skew(theirs time.Time) error {
	clock := ""
	if !theirs.IsZero() {
		clock = ", there it is " + theirs.UTC().Format(time.RFC3339) + ", here " + time.Now().UTC().Format(time.RFC3339)
	}
	return fmt.Errorf("the clocks of the server %s and of this host differ by more than %d minutes (BADTIME%s): set the one that is wrong", u.Server, fudge/60, clock)
}

// refusal words a server's no to an update (RFC 2136 section 2.2).
func (u Update) refusal(reply *dns.Msg, at place) error {
	name, zone := plain(at.name), plain(at.zone)
	switch reply.Rcode {
	case dns.RcodeRefused:
		return fmt.Errorf("the server %s refused the update (REFUSED): allow the key %s to update TXT at %s", u.Server, u.KeyName, name)
	case dns.RcodeNotAuth:
		return fmt.Errorf("the server %s does not have the zone %s (NOTAUTH): name the zone's primary server", u.Server, zone)
	case dns.RcodeNotZone:
		return fmt.Errorf("the server %s says that %s is not in the zone %s (NOTZONE): name the zone that it is in, or none", u.Server, name, zone)
	case dns.RcodeNotImplemented:
		return fmt.Errorf("the server %s does not take updates (NOTIMP): name the zone's primary server", u.Server)
	case dns.RcodeServerFailure:
		return fmt.Errorf("the server %s could not update %s (SERVFAIL): its log says why; often it may not write to the directory of the zone", u.Server, zone)
	}
	return fmt.Errorf("the server %s did not update %s in the zone %s (%s)", u.Server, name, zone, rcode(reply))
}

// answers reports whether a reply belongs to a question.
func answers(reply, question *dns.Msg) bool {
	if reply.Id != question.Id || !reply.Response || reply.Opcode != question.Opcode {
		return false
	}
	// RFC 2136 section 3.8 lets a server leave the zone section out.
	if len(reply.Question) == 0 {
		return question.Opcode == dns.OpcodeUpdate || reply.Rcode != dns.RcodeSuccess
	}
	got, asked := reply.Question[0], question.Question[0]
	return got.Qtype == asked.Qtype && strings.EqualFold(got.Name, asked.Name)
}

func overTCP(ctx context.Context, server string, question []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, exchangeTime, errNoAnswer)
	defer cancel()
	conn, end, err := dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer end()
	if _, err := conn.Write(question); err != nil {
		return nil, because(ctx, err)
	}
	raw, err := conn.ReadMsgHeader(nil)
	return raw, because(ctx, err)
}

// dial connects. What is under way on the connection fails when the context ends.
func dial(ctx context.Context, network, server string) (conn *dns.Conn, end func(), err error) {
	raw, err := new(net.Dialer).DialContext(ctx, network, server)
	if err != nil {
		return nil, nil, because(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	return &dns.Conn{Conn: raw, UDPSize: udpSize}, func() { stop(); raw.Close() }, nil
}

// because names the end of the context where that is what made a connection fail.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// endpoint gives host:port.
func endpoint(server string) (string, error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil { // no port
		host, port = strings.TrimSuffix(strings.TrimPrefix(server, "["), "]"), "53"
	}
	if _, ok := dns.IsDomainName(host); net.ParseIP(host) == nil && (!ok || host == "" || strings.ContainsAny(server, "[]/ ")) {
		return "", fmt.Errorf("%q is not host:port", server)
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return "", fmt.Errorf("%q has no port number", server)
	}
	return net.JoinHostPort(host, port), nil
}

func rcode(reply *dns.Msg) string { return rcodeName(reply.Rcode) }

func rcodeName(code int) string {
	if name, known := dns.RcodeToString[code]; known {
		return name
	}
	return fmt.Sprintf("RCODE%d", code)
}

// plain is a name for people.
func plain(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}
