package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/smtp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

const (
	crowd       = 50 // clients at a time
	crowdRounds = 6  // letters of each

	// The crowd is one identity, which the default would let send fewer.
	unlimited = "[policy]\nlimits = []\n"
)

// TestOutage: the relay goes away and comes back, twice, while fifty clients
// send. None of them hears of it, and every letter arrives: once, or twice where
// an event says that it may be so.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"proxy", "queue"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, setup{delivery: `mode = "` + mode + `"`, config: unlimited})
			c := b.startCrowd(t)
			for n := range 2 {
				c.awaitSent(t, int64(100*n+20))
				b.down(t, b.relay)
				c.awaitSent(t, int64(100*n+100))
				b.up(t, b.relay)
				b.output("queue", "retry", "--all") // so that it is used again amid the crowd
			}
			c.finish(t)
			b.checkCrowd(t, c, b.relay)
		})
	}
}

// down stops a relay as its host does, and up starts it.
func (b *bed) down(t *testing.T, relay *testkit.Relay) {
	t.Helper()
	if err := b.Remote.Do(relay.Down); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) up(t *testing.T, relay *testkit.Relay) {
	t.Helper()
	if err := b.Remote.Do(relay.Up); err != nil {
		t.Fatal(err)
	}
}

// throng are many clients that send at the same time.
type throng struct {
	mu      sync.Mutex
	sent    []letter // answered with 250
	errs    []error
	changed chan struct{}
	done    sync.WaitGroup
}

// startCrowd lets the clients begin. Each is a process' worth of work: a
// connection of its own for each letter, as web sites have it.
func (b *bed) startCrowd(t *testing.T) *throng {
	t.Helper()
	c := &throng{changed: make(chan struct{}, 1)}
	for range crowd {
		c.done.Go(func() { // ends after its letters; finish waits for it, or the test's end
			for range crowdRounds {
				l := newLetter()
				c.note(l, b.post(l))
			}
		})
	}
	t.Cleanup(c.done.Wait)
	return c
}

// post sends a letter over a connection of its own.
func (b *bed) post(l letter) (err error) {
	conn, err := b.knock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	return submit(conn, l)
}

// knock connects, and waits for a proxy where none runs at the moment.
func (b *bed) knock() (conn *net.TCPConn, err error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if conn, err = b.Host.DialAs(b.t.Context(), siteUID, netip.MustParseAddrPort("127.0.0.1:2525")); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func submit(conn net.Conn, l letter) error {
	client, err := smtp.NewClient(conn, hostName)
	if err != nil {
		return err
	}
	if err := errors.Join(client.Mail(sender), client.Rcpt(recipient)); err != nil {
		return err
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	_, err = w.Write(l.text)
	return errors.Join(err, w.Close(), client.Reset())
}

func (c *throng) note(l letter, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.errs = append(c.errs, err)
	} else {
		c.sent = append(c.sent, l)
	}
}

// awaitSent waits until so many letters are sent.
func (c *throng) awaitSent(t *testing.T, n int64) {
	t.Helper()
	awaitCount(t, "letters sent", n, func() int64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return int64(len(c.sent) + len(c.errs))
	})
}

// finish waits for the clients, none of which may have heard anything but 250.
func (c *throng) finish(t *testing.T) {
	t.Helper()
	c.done.Wait()
	if len(c.errs) > 0 || len(c.sent) != crowd*crowdRounds {
		t.Errorf("of %d letters %d were accepted; clients heard %v", crowd*crowdRounds, len(c.sent), c.errs)
	}
}

// TestCrash: the proxy is killed, three times, while fifty clients send. Some of
// them hear of it and keep their letters; what was answered with 250 arrives.
func TestCrash(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"proxy", "queue"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, setup{delivery: `mode = "` + mode + `"`, config: unlimited, errors: []string{proxyEnded}})
			b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "451 4.3.0 not now", Chance: 0.3}) // so that the spool is needed
			c := b.startCrowd(t)
			for _, sent := range []int64{40, 120, 200} { // of 300, however fast they go
				c.awaitSent(t, sent)
				b.killProxy(t)
			}
			c.done.Wait()
			b.relay.ClearFaults()
			if len(c.errs) == 0 {
				t.Error("no client noticed that the proxy was killed")
			}
			b.checkCrowd(t, c, b.relay)
		})
	}
}

// checkCrowd: in the end each letter is at one of the relays, whole, and each
// relay has some. checkCustody sees to it that none is there twice without a word
// of it.
func (b *bed) checkCrowd(t *testing.T, c *throng, relays ...*testkit.Relay) {
	t.Helper()
	waiting, _ := b.list(t, "queue")
	b.retry(t, waiting...)
	b.checkStored(t)
	var all []testkit.RelayMessage
	for i, relay := range relays {
		messages := relay.Messages()
		if all = append(all, messages...); len(messages) == 0 {
			t.Errorf("relay %d of %d has no message", i+1, len(relays))
		}
	}
	for _, l := range c.sent {
		at := slices.IndexFunc(all, func(m testkit.RelayMessage) bool { return bytes.Contains(m.Bytes, []byte(l.marker)) })
		if at < 0 {
			t.Errorf("the letter %s is lost", l.marker)
			continue
		}
		l.compare(t, all[at].Bytes)
	}
	queued := map[string]int{}
	for _, event := range b.events("--kind", "transaction") {
		queued[event.Custody]++
	}
	t.Logf("of %d letters %v, of which came %d copies", len(c.sent), queued, len(all))
	if queued[audit.CustodySpool] == 0 {
		t.Error("the outage was none: no letter was queued")
	}
}

// TestFailover: the first of two relays goes down while fifty clients send, and
// the second has all that the first has not: at once, and what the spool had too.
func TestFailover(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"proxy", "queue"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := pairSetup
			s.delivery += fmt.Sprintf("\nmode = %q", mode)
			s.config += unlimited
			b := newBed(t, s)
			second := b.startRelay(secondAddr)
			b.start(s)
			c := b.startCrowd(t)
			awaitCount(t, "messages at the first relay", 50, func() int64 { return b.relay.Counters().Transactions })
			b.down(t, b.relay)
			c.finish(t)
			b.checkCrowd(t, c, b.relay, second)
		})
	}
}

// TestBothAway: with both relays away the spool has the message, and whichever
// comes back gets it.
func TestBothAway(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"proxy", "queue"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := pairSetup
			s.delivery += fmt.Sprintf("\nmode = %q", mode)
			b := newBed(t, s)
			second := b.startRelay(secondAddr)
			b.down(t, b.relay)
			b.down(t, second)
			b.start(s)
			l := newLetter()
			got := b.talk(t).send(l, sender, recipient)
			if got.code != 250 {
				t.Fatalf("the client hears %+v", got)
			}
			txn := got.txn(t)
			b.checkStored(t, txn+".deferred")
			b.up(t, second)
			b.retry(t, txn)
			if event := b.awaitDelivery(t, txn); event.Relay != "second" || event.PossibleDuplicate {
				t.Errorf("the event says %+v", event)
			}
			l.compare(t, findOne(t, second, l).Bytes)
		})
	}
}
