package relay

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

const (
	one587, one2525, one465 = "192.0.2.1:587", "192.0.2.1:2525", "192.0.2.1:465"
	two587, two2525         = "[2001:db8::1]:587", "[2001:db8::1]:2525"
)

func withPorts(addresses ...string) func(*Options) {
	return func(o *Options) {
		o.Endpoints = func(context.Context) ([]Endpoint, error) { return inClear(addresses...), nil }
	}
}

func states(status Status) string {
	var all []string
	for _, port := range status.Ports {
		all = append(all, string(port.State))
	}
	return strings.Join(all, " ")
}

// begin has a fresh connection opened and gives the addresses that were dialled.
func begin(t *testing.T, relay *fakeRelay, pool *Pool) (dialled string, err error) {
	t.Helper()
	pool.trim(0)
	tx, err := pool.Begin(t.Context(), "uid:33", "", smtp.MailParams{})
	if err == nil {
		tx.Abort()
	}
	return relay.took(), err
}

// The ports are tried in their order, what worked goes first from then on, and
// what this network does to each is known.
func TestPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, withPorts(one587, one2525, one465))
		if status := pool.Status(time.Now()); len(status.Ports) != 0 {
			t.Fatalf("%+v", status.Ports)
		}
		relay.fail(one587, errHang)
		began := time.Now()
		dialled, err := begin(t, relay, pool)
		if err != nil || dialled != one587+" "+one2525 || time.Since(began) != 5*time.Second {
			t.Fatalf("%s in %v: %v", dialled, time.Since(began), err)
		}
		if got := states(pool.Status(time.Now())); got != "blocked works untried" {
			t.Fatal(got)
		}
		if dialled, err := begin(t, relay, pool); err != nil || dialled != one2525 {
			t.Fatalf("%s: %v", dialled, err)
		}
		// Till it fails: then the order is that of the configuration again.
		relay.fail(one2525, refusedTCP)
		if dialled, err := begin(t, relay, pool); err != nil || dialled != one2525+" "+one587+" "+one465 {
			t.Fatalf("%s: %v", dialled, err)
		}
		if got := states(pool.Status(time.Now())); got != "blocked blocked works" {
			t.Fatal(got)
		}
		// The last way has all the time of a connect.
		relay.fail(one465, errHang)
		began = time.Now()
		dialled, err = begin(t, relay, pool)
		var failure *Error
		if !errors.As(err, &failure) || failure.Step != StepConnect || dialled != one465+" "+one587+" "+one2525 || time.Since(began) != 10*time.Second {
			t.Fatalf("%s in %v: %v", dialled, time.Since(began), err)
		}
		relay.fail(one587, nil)
		if dialled, err := begin(t, relay, pool); err != nil || dialled != one587 {
			t.Fatalf("%s: %v", dialled, err)
		}
		want := []PortStatus{
			{587, PortWorks, "", time.Now()},
			{2525, PortBlocked, refusedTCP.Error(), began.Add(-5 * time.Second)},
			{465, PortBlocked, errHang.Error(), began.Add(5 * time.Second)},
		}
		if got := pool.Status(time.Now()).Ports; !reflect.DeepEqual(got[0], want[0]) || got[1].State != want[1].State || got[1].Error != want[1].Error ||
			got[2] != want[2] || got[1].Since != want[1].Since {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}

// Of one port's addresses the one that cannot be connected to goes last, and
// the port works if one of them does.
func TestAddressesOfAPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, withPorts(two587, one587, two2525, one2525))
		relay.fail(two587, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)})
		for _, want := range []string{two587 + " " + one587, one587, one587} {
			if dialled, err := begin(t, relay, pool); err != nil || dialled != want {
				t.Fatalf("%s: %v", dialled, err)
			}
		}
		if got := states(pool.Status(time.Now())); got != "works untried" {
			t.Fatal(got)
		}
	})
}

// What fails for want of something on this host says nothing about a port.
func TestOwnWantIsNoBlockedPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, withPorts(one587))
		relay.fail(one587, &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)})
		if _, err := begin(t, relay, pool); err == nil {
			t.Fatal("no error")
		}
		if got := states(pool.Status(time.Now())); got != "untried" {
			t.Fatal(got)
		}
	})
}

// A login that is refused for good is not repeated on the next port, and a relay
// that turned us away is not asked again behind another door.
func TestPortsThatAreNoAlternative(t *testing.T) {
	for _, test := range []struct {
		name, verb, reply string
		dialled, states   string
	}{
		{"login refused", "AUTH", "535 5.7.8 wrong", one587, "works untried"},
		{"login fails now", "AUTH", "454 4.7.0 later", one587 + " " + two587 + " " + one2525, "works works"},
		{"turned away", "CONNECT", "421 4.3.2 no", one587 + " " + two587, "failed untried"},
		{"not served", "EHLO", "550 5.7.1 no", one587 + " " + two587 + " " + one2525, "failed failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				relay := &fakeRelay{}
				relay.set(func(command string) string {
					switch {
					case strings.HasPrefix(command, test.verb):
						return test.reply
					case strings.HasPrefix(command, "EHLO"):
						return "250-fake.test\r\n250 AUTH PLAIN"
					}
					return ""
				})
				pool := relay.pool(t, func(o *Options) {
					withPorts(one587, two587, one2525)(o)
					o.Username, o.Password = "u", func() []byte { return []byte("p") }
				})
				if dialled, err := begin(t, relay, pool); err == nil || dialled != test.dialled {
					t.Fatalf("%s: %v", dialled, err)
				}
				if got := states(pool.Status(time.Now())); got != test.states {
					t.Fatal(got)
				}
			})
		})
	}
}

// Where one way has TLS no message goes by one that has none, not even if the
// TLS of the first fails.
func TestNoWeakerWay(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{AuthWithoutTLS: true})
	for name, mode := range map[string]TLSMode{"starttls": STARTTLS, "implicit": Implicit} {
		pool := newPool(t, r, func(o *Options) {
			o.Roots = x509.NewCertPool()                  // none verifies
			o.Timeouts.Handshake = 500 * time.Millisecond // a TLS handshake and a greeting wait for each other
			o.Endpoints = func(context.Context) ([]Endpoint, error) {
				return []Endpoint{
					{netip.MustParseAddrPort(r.Addr()), None},
					{netip.MustParseAddrPort(r.ImplicitAddr()), mode},
					{netip.MustParseAddrPort(r.Addr()), STARTTLS},
					{netip.MustParseAddrPort(r.Addr()), None},
				}, nil
			}
		})
		_, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@x.test")
		var failure *Error
		if !errors.As(err, &failure) || len(r.Messages()) != 0 {
			t.Errorf("%s: %v", name, err)
		}
		if got := states(pool.Status(time.Now())); got != "failed failed" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if c := r.Counters(); c.Auths+c.AuthFailures != 0 {
		t.Errorf("a credential was sent: %+v", c)
	}
}

// A port whose TLS fails is left for the next, which is verified too.
func TestNextPortAfterTLS(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{RequireTLS: true, RequireAuth: true})
	r.On(testkit.StepSTARTTLS, testkit.Fault{Text: "454 4.7.0 not now"})
	pool := newPool(t, r, func(o *Options) {
		o.Endpoints = func(context.Context) ([]Endpoint, error) {
			return []Endpoint{{netip.MustParseAddrPort(r.Addr()), STARTTLS}, {netip.MustParseAddrPort(r.ImplicitAddr()), Implicit}}, nil
		}
	})
	if reply, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@x.test"); err != nil || reply.Code != 250 {
		t.Fatal(reply, err)
	}
	if m := r.Messages(); len(m) != 1 || !m[0].TLS {
		t.Fatalf("%+v", m)
	}
	if got := states(pool.Status(time.Now())); got != "failed works" {
		t.Fatal(got)
	}
}
