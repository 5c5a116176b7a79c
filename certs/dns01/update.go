package dns01

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libdns/libdns"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
)

const (
	recordTTL = time.Minute
	// cleanUpTime is what CleanUp may take; nobody can call it off.
	cleanUpTime = time.Minute
)

// Update puts the value of a challenge into a zone by an RFC 2136 update that is
// signed with a TSIG key, always over TCP. It is a solver for ACME by itself, and
// a libdns provider.
type Update struct {
	// Server takes the updates: host:port, or host alone for port 53. A name
	// with several addresses is tried at each.
	Server string
	// Zone is what is updated; "" asks which zone a name is in.
	Zone string
	// KeyName and Algorithm are the key's as the server has them. Algorithm is
	// "hmac-sha224", "hmac-sha256" (for "" too), "hmac-sha384" or "hmac-sha512".
	KeyName, Algorithm string
	// Key is the secret, in base64.
	Key string `json:"-"`
	// Resolvers are asked where a name belongs; none: the server itself, and
	// those of /etc/resolv.conf where it does not know.
	Resolvers []string
	// Propagation is how long Wait lets the servers of the zone take to show a
	// value: 0 two minutes, below 0 it does not wait.
	Propagation time.Duration
}

var (
	_ acmez.Solver          = Update{}
	_ acmez.Waiter          = Update{}
	_ libdns.RecordAppender = Update{}
	_ libdns.RecordDeleter  = Update{}
)

// String leaves the secret out.
func (u Update) String() string {
	return fmt.Sprintf("updates at %s with the key %s", u.Server, u.KeyName)
}

// GoString is for %#v.
func (u Update) GoString() string { return u.String() }

// Validate reports everything that is wrong with the fields. It contacts nobody.
func (u Update) Validate() error {
	_, serverErr := endpoint(u.Server)
	if serverErr != nil {
		serverErr = fmt.Errorf("server: %w", serverErr)
	}
	var zoneErr error
	if _, ok := dns.IsDomainName(u.Zone); u.Zone != "" && !ok {
		zoneErr = fmt.Errorf("zone: %q is not a domain name", u.Zone)
	}
	_, keyErr := newKey(u.KeyName, u.Algorithm, u.Key)
	return errors.Join(serverErr, zoneErr, keyErr, validateResolvers(u.Resolvers))
}

// Present adds the value of a challenge beside others at the same name.
func (u Update) Present(ctx context.Context, challenge acme.Challenge) error {
	at, record, err := u.prepare(ctx, challenge)
	if err != nil {
		return err
	}
	_, err = u.AppendRecords(ctx, at.zone, []libdns.Record{record})
	return err
}

// Wait returns when the servers of the zone that can be asked all show the value
// of a challenge. It fails if one of them does not within the time for
// propagation; if none can be asked, it has only waited.
func (u Update) Wait(ctx context.Context, challenge acme.Challenge) error {
	w := watch{find: u.finder(), also: []string{u.Server}, limit: u.Propagation}
	return w.wait(ctx, challenge.DNS01TXTRecordName(), challenge.DNS01KeyAuthorization())
}

// CleanUp takes the value of a challenge away, and no other at the same name.
// It goes on if the context is called off, for at most a minute.
func (u Update) CleanUp(ctx context.Context, challenge acme.Challenge) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	at, record, err := u.prepare(ctx, challenge)
	if err != nil {
		return err
	}
	_, err = u.DeleteRecords(ctx, at.zone, []libdns.Record{record})
	return err
}

// prepare finds out where the record of a challenge belongs.
func (u Update) prepare(ctx context.Context, challenge acme.Challenge) (place, libdns.Record, error) {
	at, err := u.locate(ctx, challenge.DNS01TXTRecordName())
	if err != nil {
		return place{}, nil, err
	}
	return at, libdns.TXT{Name: at.relative(), TTL: recordTTL, Text: challenge.DNS01KeyAuthorization()}, nil
}

// AppendRecords adds TXT records to the zone in one update, and gives them back.
// Other types are refused: a challenge needs none.
func (u Update) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	texts, rrs, err := texts(zone, records)
	if err != nil {
		return nil, err
	}
	message := new(dns.Msg).SetUpdate(dns.Fqdn(zone))
	message.Insert(rrs)
	if err := u.update(ctx, message); err != nil {
		return nil, err
	}
	return texts, nil
}

// DeleteRecords takes exactly these TXT records out of the zone, in one update,
// whatever their TTL; it does not tell those that were not there from those that
// were. One without a text is refused: it would mean others' records.
func (u Update) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	texts, rrs, err := texts(zone, records)
	if err != nil {
		return nil, err
	}
	message := new(dns.Msg).SetUpdate(dns.Fqdn(zone))
	message.Remove(rrs)
	if err := u.update(ctx, message); err != nil {
		return nil, err
	}
	return texts, nil
}

// Check asks the server whether it accepts the key. For each name that is to be
// certified it asks whether the key may update the challenge there: it deletes a
// value that nobody adds, which changes nothing (RFC 2136 section 3.4.2.4).
// Without names it makes a signed query for the zone's SOA, and there must be a
// zone: servers differ in what they say of others.
func (u Update) Check(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return u.checkZone(ctx)
	}
	for _, name := range names {
		at, err := u.locate(ctx, "_acme-challenge."+strings.TrimPrefix(name, "*."))
		if err != nil {
			return err
		}
		nothing := libdns.TXT{Name: at.relative(), Text: "smtpwall check"}
		if _, err := u.DeleteRecords(ctx, at.zone, []libdns.Record{nothing}); err != nil {
			return err
		}
	}
	return nil
}

func (u Update) checkZone(ctx context.Context) error {
	if u.Zone == "" {
		return errors.New("nothing to check the key with: neither a zone nor a name")
	}
	message := new(dns.Msg).SetQuestion(dns.Fqdn(u.Zone), dns.TypeSOA)
	message.RecursionDesired = false
	reply, err := u.exchange(ctx, message)
	if err != nil {
		return err
	}
	isZone := reply.Authoritative && slices.ContainsFunc(reply.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
	if !isZone {
		return fmt.Errorf("the server %s is not authoritative for %s (%s): name a zone and its primary server", u.Server, u.Zone, rcode(reply))
	}
	return nil
}

// update sends one and puts the server's no into words.
func (u Update) update(ctx context.Context, message *dns.Msg) error {
	reply, err := u.exchange(ctx, message)
	if err != nil {
		return err
	}
	if reply.Rcode == dns.RcodeSuccess {
		return nil
	}
	return u.refusal(reply, place{name: message.Ns[0].Header().Name, zone: message.Question[0].Name})
}

// texts makes TXT records for the wire of those of libdns.
func texts(zone string, records []libdns.Record) (same []libdns.Record, rrs []dns.RR, err error) {
	if len(records) == 0 {
		return nil, nil, errors.New("no record")
	}
	for _, record := range records {
		rr := record.RR()
		if rr.Type != "TXT" || rr.Data == "" {
			return nil, nil, fmt.Errorf("record %s: only TXT records with a text are updated", rr.Name)
		}
		header := dns.RR_Header{Name: dns.CanonicalName(libdns.AbsoluteName(rr.Name, dns.Fqdn(zone))), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: uint32(rr.TTL / time.Second)}
		rrs = append(rrs, &dns.TXT{Hdr: header, Txt: characterStrings(rr.Data)})
		same = append(same, libdns.TXT{Name: rr.Name, TTL: rr.TTL, Text: rr.Data})
	}
	return same, rrs, nil
}

// characterStrings cuts a text as RFC 1035 section 3.3 wants it, and marks
// backslashes as the library does.
func characterStrings(text string) []string {
	var all []string
	for part := range slices.Chunk([]byte(text), 255) {
		all = append(all, strings.ReplaceAll(string(part), `\`, `\\`))
	}
	return all
}
