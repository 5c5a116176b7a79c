package relay

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// stepOfBegin begins a transaction and gives the step that failed, "" for none.
func stepOfBegin(t *testing.T, pool *Pool, holder string) Step {
	t.Helper()
	tx, err := pool.Begin(t.Context(), holder, "from@example.com", smtp.MailParams{})
	if err == nil {
		tx.Abort()
		return ""
	}
	var failure *Error
	if !errors.As(err, &failure) {
		t.Fatalf("%v is no *Error", err)
	}
	return failure.Step
}

func expectSteps(t *testing.T, pool *Pool, steps ...Step) {
	t.Helper()
	for i, want := range steps {
		if got := stepOfBegin(t, pool, "uid:33"); got != want {
			t.Fatalf("call %d: %q, want %q", i+1, got, want)
		}
	}
}

// The third failure in a row opens the breaker: nobody waits for the relay until
// the pause is over, then one tries, and each failure doubles the pause up to
// five minutes. The first success closes it.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		relay.fail("192.0.2.1:25", refusedTCP)
		pool := relay.pool(t, nil)
		pool.slots.random = func() float64 { return 0.5 } // no jitter
		expectSteps(t, pool, StepConnect, StepConnect, StepConnect, StepBreaker, StepBreaker)
		for pause := 5 * time.Second; pause < 40*time.Minute; pause *= 2 {
			pause := min(pause, 5*time.Minute)
			now := time.Now()
			ok, at := pool.Ready(now)
			if ok || at.Sub(now) != pause {
				t.Fatalf("ready %v in %v, want in %v", ok, at.Sub(now), pause)
			}
			time.Sleep(pause - time.Nanosecond)
			expectSteps(t, pool, StepBreaker)
			time.Sleep(time.Nanosecond)
			if ok, _ := pool.Ready(time.Now()); !ok {
				t.Fatal("not ready after the pause")
			}
			expectSteps(t, pool, StepConnect, StepBreaker)
		}
		relay.took()
		relay.fail("192.0.2.1:25", nil)
		time.Sleep(5 * time.Minute)
		expectSteps(t, pool, "", "", "")
		if status := pool.Status(time.Now()); status.Breaker != BreakerClosed || status.Error != "" || !status.RetryAt.IsZero() {
			t.Fatalf("%+v", status)
		}
		// Closed again it takes three failures, and the first pause is short.
		relay.fail("192.0.2.1:25", refusedTCP)
		pool.trim(0)
		expectSteps(t, pool, StepConnect, StepConnect, StepConnect, StepBreaker)
		if now := time.Now(); pool.Status(now).RetryAt.Sub(now) != 5*time.Second {
			t.Fatalf("%+v", pool.Status(now))
		}
	})
}

func TestBreakerJitter(t *testing.T) {
	if low, high := jitter(time.Minute, 0), jitter(time.Minute, 1); low != 48*time.Second || high != 72*time.Second {
		t.Fatalf("from %v to %v", low, high)
	}
}

// A success between failures starts the count anew, be it a connection or the
// relay's word on a message.
func TestBreakerCountsFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, nil)
		tx, err := pool.Begin(t.Context(), "uid:33", "", smtp.MailParams{})
		if err != nil {
			t.Fatal(err)
		}
		relay.fail("192.0.2.1:25", refusedTCP)
		expectSteps(t, pool, StepConnect, StepConnect)
		if _, err := tx.Recipients(t.Context(), []smtp.Recipient{{Address: "a@x.test"}}); err != nil {
			t.Fatal(err)
		}
		tx.Write([]byte("a: b\r\n\r\n"))
		if reply, err := tx.Finish(); err != nil || reply.Code != 250 {
			t.Fatal(reply, err)
		}
		pool.trim(0)
		expectSteps(t, pool, StepConnect, StepConnect, StepConnect, StepBreaker)
	})
}

// While one tries the relay out the others fail at once, and who waited for a
// connection when the breaker opened does not wait on.
func TestBreakerHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, func(o *Options) { o.Connections = 3 })
		relay.fail("192.0.2.1:25", errHang)
		results := make(chan Step, 10)
		for range 6 { // some dial, the others wait for a connection
			go func() { results <- stepOfBegin(t, pool, "uid:33") }()
		}
		began := time.Now()
		count := map[Step]int{}
		for range 6 {
			count[<-results]++
		}
		if passed := time.Since(began); passed > 20*time.Second || count[StepConnect]+count[StepBreaker] != 6 || count[StepBreaker] == 0 {
			t.Fatalf("%v after %v", count, passed)
		}
		_, at := pool.Ready(time.Now())
		time.Sleep(time.Until(at))
		go func() { results <- stepOfBegin(t, pool, "uid:33") }()
		synctest.Wait()
		if ok, _ := pool.Ready(time.Now()); ok || pool.Status(time.Now()).Breaker != BreakerHalfOpen {
			t.Fatalf("ready %v, %+v", ok, pool.Status(time.Now()))
		}
		began = time.Now()
		expectSteps(t, pool, StepBreaker, StepBreaker)
		if time.Since(began) != 0 {
			t.Fatal("others waited for the probe")
		}
		if step := <-results; step != StepConnect {
			t.Fatal(step)
		}
	})
}

// A caller that goes away is no failure of the relay, nor does its probe hinder
// the next one.
func TestBreakerAndContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		relay.fail("192.0.2.1:25", errHang)
		pool := relay.pool(t, nil)
		impatient := func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := pool.Begin(ctx, "uid:33", "", smtp.MailParams{}); err == nil {
				t.Fatal("no error")
			}
		}
		for range 10 {
			impatient()
		}
		if pool.Status(time.Now()).Breaker != BreakerClosed {
			t.Fatal("opened by callers that went away")
		}
		relay.fail("192.0.2.1:25", refusedTCP)
		expectSteps(t, pool, StepConnect, StepConnect, StepConnect, StepBreaker)
		relay.fail("192.0.2.1:25", errHang)
		time.Sleep(6 * time.Second)
		impatient()
		relay.fail("192.0.2.1:25", nil)
		expectSteps(t, pool, "")
	})
}

// Probe tries an open breaker out before its time.
func TestProbeDoesNotWaitForTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		relay.fail("192.0.2.1:25", refusedTCP)
		pool := relay.pool(t, nil)
		expectSteps(t, pool, StepConnect, StepConnect, StepConnect, StepBreaker)
		relay.took()
		if err := pool.Probe(t.Context()); err == nil || relay.took() == "" {
			t.Fatalf("%v", err)
		}
		relay.fail("192.0.2.1:25", nil)
		if err := pool.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		expectSteps(t, pool, "")
	})
}

// The client is told what was told to those who found out, and nothing inner.
func TestBreakerReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		relay.set(replying("EHLO", "550 5.7.1 go away, inner.relay.test"))
		pool := relay.pool(t, nil)
		expectSteps(t, pool, StepHello, StepHello, StepHello)
		_, err := pool.Begin(t.Context(), "uid:33", "", smtp.MailParams{})
		var failure *Error
		if !errors.As(err, &failure) || failure.Step != StepBreaker || !failure.Away() || failure.Lent() {
			t.Fatal(err)
		}
		if reply := failure.ClientReply(); reply.Enhanced != (smtp.EnhancedCode{4, 3, 5}) || strings.Contains(reply.Text(), "inner") {
			t.Fatal(reply)
		}
		if !strings.Contains(err.Error(), "go away") {
			t.Errorf("the cause is not in %q", err)
		}
	})
}

// A relay whose name leads nowhere is away like one that does not answer.
func TestBreakerAndResolving(t *testing.T) {
	for name, resolve := range map[string]error{"no answer": errors.New("no such host"), "no address": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool := (&fakeRelay{}).pool(t, func(o *Options) {
					o.Endpoints = func(context.Context) ([]Endpoint, error) { return nil, resolve }
				})
				expectSteps(t, pool, StepResolve, StepResolve, StepResolve, StepBreaker)
			})
		})
	}
}

// hookedConn tells when it is closed.
type hookedConn struct {
	net.Conn
	closed func()
}

func (c hookedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// A probe dials anew, although a connection from before comes back in that
// moment: what becomes of that one is told to nobody.
func TestProbeTakesNoKeptConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, nil)
		var old [2]*Transaction
		for i := range old {
			var err error
			if old[i], err = pool.Begin(t.Context(), "uid:1", "", smtp.MailParams{}); err != nil {
				t.Fatal(err)
			}
		}
		relay.fail("192.0.2.1:25", refusedTCP)
		expectSteps(t, pool, StepConnect, StepConnect, StepConnect, StepBreaker)
		old[0].c.Conn = hookedConn{old[0].c.Conn, func() { old[1].Abort() }}
		old[0].Abort()
		_, at := pool.Ready(time.Now())
		time.Sleep(time.Until(at))
		relay.took()
		expectSteps(t, pool, StepConnect, StepBreaker) // the first closes what is kept, and the hook gives the other one back
		if relay.took() == "" || old[1].c != nil {
			t.Fatal("the probe did not dial")
		}
		_, at = pool.Ready(time.Now())
		time.Sleep(time.Until(at))
		relay.fail("192.0.2.1:25", nil)
		expectSteps(t, pool, "", "")
	})
}

// A probe of which nobody hears again hinders the next one for a while only, and
// a person not at all.
func TestProbeThatNeverTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := (&fakeRelay{}).pool(t, nil)
		lose := func() {
			for range breakerFailures {
				pool.slots.failed(&Error{Step: StepConnect, Cause: errClosed}, true)
			}
			_, at := pool.Ready(time.Now())
			time.Sleep(time.Until(at))
			if probing, err := pool.slots.acquire(t.Context(), "uid:1", 0); err != nil || !probing {
				t.Fatal(probing, err)
			}
			pool.slots.release("uid:1")
		}
		lose()
		expectSteps(t, pool, StepBreaker)
		if err := pool.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		expectSteps(t, pool, "")
		lose()
		time.Sleep(longestProbe - time.Nanosecond)
		expectSteps(t, pool, StepBreaker)
		time.Sleep(time.Nanosecond)
		if ok, _ := pool.Ready(time.Now()); !ok {
			t.Fatal("not ready")
		}
		expectSteps(t, pool, "", "")
	})
}
