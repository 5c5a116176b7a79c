package dns01

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// startPair has one zone, at a primary and a secondary; a third server of the
// zone is never there.
func startPair(t *testing.T, notify string) (primary, secondary *server) {
	t.Helper()
	primary = startNamed(t, "127.0.0.1", `zone "acme.example.org" { type primary; file "acme"; allow-update { key SmtpWall; }; notify `+notify+`; notify-source 127.0.0.1; notify-delay 0; };`,
		map[string]string{"acme": zoneFile("ns1 A 127.0.0.1", "@ NS ns2", "ns2 A 127.0.0.2", "@ NS ns3", "ns3 A 127.0.0.3", "ns3 AAAA 2001:db8::3")})
	secondary = startNamed(t, "127.0.0.2", `zone "acme.example.org" { type secondary; primaries { 127.0.0.1; }; };`, map[string]string{})
	secondary.awaitZone("acme.example.org")
	return primary, secondary
}

// TestWaitForTheSecondary: whoever certifies may ask any server of the zone.
func TestWaitForTheSecondary(t *testing.T) {
	_, secondary := startPair(t, "yes")
	u, c := updateAt("127.0.0.1"), challenge("mail.acme.example.org", "x")
	if err := u.Present(within(t), c); err != nil {
		t.Fatal(err)
	}
	if err := u.Wait(within(t), c); err != nil {
		t.Fatal(err)
	}
	if got := secondary.texts("_acme-challenge.mail.acme.example.org"); len(got) != 1 {
		t.Errorf("the secondary has %q", got)
	}
}

// TestWaitForASecondaryThatIsBehind: it is named, and another that shows the
// value does not make up for it. A program's value is waited for alike.
func TestWaitForASecondaryThatIsBehind(t *testing.T) {
	startPair(t, "no")
	u, c := updateAt("127.0.0.1"), challenge("mail.acme.example.org", "x")
	u.Propagation = time.Second
	if err := u.Present(within(t), c); err != nil {
		t.Fatal(err)
	}
	hook := &Hook{Resolvers: []string{"127.0.0.1"}, Propagation: time.Second}
	for _, wait := range []func() error{
		func() error { return u.Wait(within(t), c) },
		func() error { return hook.Wait(within(t), c) },
	} {
		wantError(t, wait(), "after 1s the value is not in TXT at _acme-challenge.mail.acme.example.org on ns2.acme.example.org (127.0.0.2): do they get the zone's changes?")
	}
	hook.Propagation, u.Propagation = -1, -1
	if err := errors.Join(hook.Wait(within(t), c), u.Wait(within(t), c)); err != nil {
		t.Errorf("not to be waited for: %v", err)
	}
}

// TestWaitEndsWithItsContext, and says so.
func TestWaitEndsWithItsContext(t *testing.T) {
	fakeNames(t, func(*dns.Msg) [][]byte { return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := updateAt("127.0.0.1").Wait(ctx, challenge("mail.example.net", "x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// TestWaitByAResolver: no server of the zone can be asked. What a resolver does
// not show it may only not have noticed, so that the time for it must do.
func TestWaitByAResolver(t *testing.T) {
	c := challenge("mail.example.net", "x")
	for name, shown := range map[string]int32{"soon": 2, "never": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			fakeNames(t, func(q *dns.Msg) [][]byte {
				switch q.Question[0].Qtype {
				case dns.TypeSOA:
					return [][]byte{packed(t, records(t, q, "example.net. SOA ns1 h 1 2 3 4 5"))}
				case dns.TypeNS:
					return [][]byte{packed(t, records(t, q, "example.net. NS ns1.example.net."))}
				case dns.TypeA:
					return [][]byte{packed(t, records(t, q, "ns1.example.net. A 127.0.0.3"))} // nobody
				case dns.TypeTXT:
					if asked.Add(1) >= shown {
						return [][]byte{packed(t, records(t, q, q.Question[0].Name+` TXT "`+c.DNS01KeyAuthorization()+`"`))}
					}
				}
				return [][]byte{packed(t, records(t, q))}
			})
			hook := &Hook{Resolvers: []string{"127.0.0.1"}, Propagation: 3 * time.Second}
			began := time.Now()
			if err := hook.Wait(within(t), c); err != nil {
				t.Error(err)
			}
			if name == "never" && time.Since(began) < hook.Propagation {
				t.Errorf("waited for %v alone", time.Since(began))
			}
			if name == "soon" && asked.Load() < shown {
				t.Errorf("asked %d times", asked.Load())
			}
		})
	}
}

// TestWaitAtMostAtSoMany: a zone may name any number of servers.
func TestWaitAtMostAtSoMany(t *testing.T) {
	fakeNames(t, func(q *dns.Msg) [][]byte {
		lines := []string{}
		for i := range 40 {
			switch q.Question[0].Qtype {
			case dns.TypeA:
				lines = append(lines, fmt.Sprintf("%s A 127.1.%d.%d", q.Question[0].Name, i, i))
			case dns.TypeNS:
				lines = append(lines, fmt.Sprintf("example.net. NS ns%d.example.net.", i))
			}
		}
		if q.Question[0].Qtype == dns.TypeSOA {
			lines = []string{"example.net. SOA ns1 h 1 2 3 4 5"}
		}
		reply := records(t, q, lines...)
		reply.Compress = true
		return [][]byte{packed(t, reply)}
	})
	w := watch{find: finder{[]string{"127.0.0.1"}}}
	if _, servers := w.servers(within(t), "mail.example.net"); len(servers) != maxWatched {
		t.Errorf("%d servers", len(servers))
	}
}
