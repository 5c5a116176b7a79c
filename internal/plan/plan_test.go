package plan

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

const (
	started = "the guard started"
	ended   = "the guard ended"
)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// options are those of a host that redirects two of the three ports.
func options() Options {
	return Options{
		Firewall: Firewall{Redirect: map[uint16]bool{465: true, 587: true}},
		Now:      noon.Add(40 * day), Running: true, Started: started, Ended: ended,
	}
}

// attempt is an event of a local process.
func attempt(after time.Duration, uid uint32, unit, to string, n uint64) *audit.Event {
	return &audit.Event{
		Time: noon.Add(after), Kind: audit.KindAttempt, PeerUID: audit.KnownUID(uid), PeerUser: map[uint32]string{0: "root", 33: "www-data"}[uid],
		PeerUnit: unit, Destination: netip.MustParseAddrPort(to), Count: n, Outcome: audit.OutcomeWouldBlock,
	}
}

// forwarded is one of somebody behind the host.
func forwarded(after time.Duration, from, container, to string) *audit.Event {
	return &audit.Event{
		Time: noon.Add(after), Kind: audit.KindAttempt, Source: netip.MustParseAddrPort(from), PeerContainer: container,
		Destination: netip.MustParseAddrPort(to), Count: 1, Reason: "forwarded from docker0", Outcome: audit.OutcomeWouldBlock,
	}
}

// message is one that came to the proxy.
func message(after time.Duration, uid uint32, from, decision string) *audit.Event {
	return &audit.Event{
		Time: noon.Add(after), Kind: audit.KindTransaction, PeerUID: audit.KnownUID(uid), PeerUser: "www-data",
		PeerUnit: "php8.2-fpm.service", ReversePath: from, Decision: decision,
	}
}

func mode(after time.Duration, reason string) *audit.Event {
	return &audit.Event{Time: noon.Add(after), Kind: audit.KindMode, Outcome: audit.OutcomeObserve, Reason: reason}
}

func planOf(o Options, events ...*audit.Event) Plan {
	g := New(o)
	for _, e := range events {
		g.Add(e)
	}
	return g.Plan()
}

// find is the one entry that fits.
func find(t *testing.T, p Plan, fits func(*Entry) bool) Entry {
	t.Helper()
	var found []Entry
	for _, e := range p.Identities {
		if fits(&e) {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d entries fit, of %+v", len(found), p.Identities)
	}
	return found[0]
}

func TestFates(t *testing.T) {
	o := options()
	o.Firewall.Inside = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	o.Firewall.Allow = []AllowEntry{{
		Who: func(id *Identity) bool { return id.User == "root" }, Port: 25, Text: "root to 192.0.2.0/24",
		To: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")},
	}}
	for _, test := range []struct {
		event *audit.Event
		want  Fate
	}{
		{attempt(0, 33, "", "192.0.2.1:25", 1), Refuse},
		{attempt(0, 33, "", "[2001:db8::1]:25", 1), Refuse},
		{attempt(0, 33, "", "192.0.2.1:465", 1), Redirect},
		{attempt(0, 33, "", "192.0.2.1:587", 1), Redirect},
		{attempt(0, 33, "", "192.0.2.1:2525", 1), Refuse}, // where nobody of ours listens
		{attempt(0, 33, "", "192.0.2.1:26", 1), Refuse},   // of a relay
		{attempt(0, 33, "", "10.1.1.1:25", 1), Refuse},    // what is inside counts for what is forwarded
		{attempt(0, 0, "", "192.0.2.1:25", 1), Allow},
		{attempt(0, 0, "", "[2001:db8::1]:25", 1), Allow},
		{attempt(0, 0, "", "[::ffff:192.0.2.1]:25", 1), Allow},
		{attempt(0, 0, "", "192.0.3.1:25", 1), Refuse},
		{attempt(0, 0, "", "192.0.2.1:587", 1), Redirect},
		{forwarded(0, "172.17.0.2:1000", "", "192.0.2.1:587"), Refuse},
		{forwarded(0, "172.17.0.2:1000", "", "10.1.1.1:25"), Allow},
	} {
		p := planOf(o, test.event)
		e := p.Identities[0]
		got := map[Fate]uint64{Refuse: e.Refused, Redirect: e.Redirected, Allow: e.Allowed}
		if got[test.want] != 1 || e.Refused+e.Redirected+e.Allowed != 1 || e.Destinations[0].Fate != test.want || p.Refused+p.Redirected+p.Allowed != 1 {
			t.Errorf("%v to %v: %+v, want %s", test.event.PeerUID, test.event.Destination, e, test.want)
		}
	}
	for outcome, want := range map[string]Fate{audit.OutcomeWouldBlock: Refuse, audit.OutcomeBlocked: Refuse, audit.OutcomeWouldRedirect: Redirect} {
		p := planOf(o, &audit.Event{Kind: audit.KindAttempt, Time: noon, PeerUID: audit.KnownUID(33), Outcome: outcome, Count: 5})
		if got := p.Identities[0].Destinations[0].Fate; got != want || p.Refused+p.Redirected != 5 {
			t.Errorf("%s without a destination: %s", outcome, got)
		}
	}
}

func TestIdentities(t *testing.T) {
	container := strings.Repeat("4f", 32)
	inContainer := attempt(0, 33, "docker-x.scope", "192.0.2.1:587", 1)
	inContainer.PeerContainer = container
	account := message(0, 0, "a@example.com", "allow")
	account.PeerUID, account.PeerUnit, account.AuthID = audit.UID{}, "", "webshop"
	p := planOf(options(),
		attempt(0, 33, "php8.2-fpm.service", "192.0.2.1:25", 7), attempt(time.Minute, 33, "cron.service", "192.0.2.1:25", 1),
		attempt(0, 33, "session-1.scope", "192.0.2.1:25", 1), attempt(0, 33, "session-c22.scope", "192.0.2.1:25", 1),
		attempt(0, 0, "", "192.0.2.1:25", 1), inContainer, forwarded(0, "172.17.0.2:1000", container, "192.0.2.1:25"),
		forwarded(0, "172.17.0.3:1000", "", "192.0.2.1:25"), forwarded(0, "172.17.0.3:1001", "", "192.0.2.2:25"), account,
		&audit.Event{Kind: audit.KindAttempt, Time: noon, Count: 99, Reason: "forwarded from br0: 400 sources, too many for each to be told"},
		&audit.Event{Kind: audit.KindAttempt, Time: noon, Count: 1, Reason: "users and units with uids from 0 to 65535, too many for each to be told"},
		&audit.Event{Kind: audit.KindDelivery, Time: noon, PeerUID: audit.KnownUID(1)},
		&audit.Event{Kind: audit.KindSession, Time: noon, PeerUID: audit.KnownUID(1)},
	)
	var got []string
	for _, e := range p.Identities {
		source := ""
		if e.Source.IsValid() {
			source = e.Source.String()
		}
		got = append(got, fmt.Sprintf("%s %s %s %s %.4s %s %s %v %d %d", e.Kind, e.UID, e.User, e.Unit, e.Container, source, e.Account, e.Forwarded, e.Refused, e.Redirected))
	}
	want := []string{
		"unknown unknown      true 100 0",
		"user 33 www-data php8.2-fpm.service    false 7 0",
		"container unknown  docker-x.scope 4f4f 172.17.0.2  true 1 1",
		"forwarded unknown    172.17.0.3  true 2 0",
		"user 33 www-data session-*.scope    false 2 0",
		"user 0 root     false 1 0",
		"user 33 www-data cron.service    false 1 0",
		"account unknown     webshop false 0 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestUnitPattern(t *testing.T) {
	for unit, want := range map[string]string{
		"session-12.scope": "session-*.scope", "session-c3.scope": "session-*.scope", "user@1000.service": "user@1000.service",
		"run-r1f00.scope": "run-*.scope", "run-u22.service": "run-*.service", "run-p123-i456.scope": "run-p123-i456.scope",
		"sshd@0-192.0.2.1:22-192.0.2.2:5000.service": "sshd@*.service", "php8.2-fpm@a.service": "php8.2-fpm@a.service",
		"session-x.scope": "session-x.scope", "run-parts.service": "run-parts.service", "": "",
	} {
		if got := unitPattern(unit); got != want {
			t.Errorf("%q: %q, want %q", unit, got, want)
		}
	}
}

func TestEntry(t *testing.T) {
	o := options()
	o.Decide = func(id Identity) (Decision, bool) {
		return Decision{Result: "deny", Rule: "r", Reason: id.User}, id.Kind == KindUser
	}
	p := planOf(o,
		attempt(3*time.Hour, 33, "php8.2-fpm.service", "192.0.2.1:25", 7), attempt(time.Hour, 33, "php8.2-fpm.service", "192.0.2.2:587", 30),
		attempt(time.Hour+time.Minute, 33, "php8.2-fpm.service", "192.0.2.2:587", 3), attempt(2*time.Hour, 33, "php8.2-fpm.service", "192.0.2.1:25", 0),
		message(0, 33, "x@Example.com", "allow"), message(0, 33, "y@example.com", "deny"), message(5*time.Hour, 33, "<>", "allow"), message(0, 33, "", "allow"),
	)
	got := find(t, p, func(*Entry) bool { return true })
	want := Entry{
		Identity: Identity{Kind: KindUser, UID: audit.KnownUID(33), User: "www-data", Unit: "php8.2-fpm.service"},
		Refused:  8, Redirected: 33, BusiestHour: 33, First: noon, Last: noon.Add(5 * time.Hour),
		Destinations: []Destination{
			{netip.MustParseAddrPort("192.0.2.2:587"), Redirect, "", 33, noon.Add(time.Hour), noon.Add(time.Hour + time.Minute)},
			{netip.MustParseAddrPort("192.0.2.1:25"), Refuse, "", 8, noon.Add(2 * time.Hour), noon.Add(3 * time.Hour)},
		},
		Decision:  &Decision{Result: "deny", Rule: "r", Reason: "www-data"},
		Submitted: map[string]uint64{"allow": 3, "deny": 1},
		Senders:   []Count{{"*@example.com", 2}, {"<>", 1}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
	if p.Refused != 8 || p.Redirected != 33 {
		t.Errorf("%+v", p)
	}
}

// Whatever comes, nothing is lost from the counts.
func TestBounds(t *testing.T) {
	g := New(options())
	const sources, destinations = maxIdentities + 500, maxDestinations + 77
	for i := range sources {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}), 1000)
		g.Add(forwarded(0, from.String(), "", "192.0.2.1:25"))
	}
	for i := range destinations {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 25)
		g.Add(forwarded(0, "172.16.0.0:1000", "", to.String()))
	}
	g.Unreadable()
	p := g.Plan()
	if p.Refused != sources+destinations || len(p.Identities) != maxIdentities+1 {
		t.Errorf("%d refused of %d identities", p.Refused, len(p.Identities))
	}
	told := uint64(0)
	for _, e := range p.Identities {
		if len(e.Destinations) > maxDestinations {
			t.Errorf("%d destinations", len(e.Destinations))
		}
		told += e.Others
		for _, d := range e.Destinations {
			told += d.Count
		}
	}
	if told != p.Refused {
		t.Errorf("%d by destination, %d in all", told, p.Refused)
	}
	said := strings.Join(p.Missing, "\n")
	for _, want := range []string{"500 events are of more than 10000 identities", "1 lines of the logs could not be read", "500 connections came too many"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in %q", want, said)
		}
	}
}
