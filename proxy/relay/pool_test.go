package relay

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

func TestPoolIsBounded(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{})
	pool := newPool(t, r, func(o *Options) { o.Connections = 3 })
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			for range 5 {
				if reply, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@x.test"); err != nil || reply.Code != 250 {
					t.Errorf("%v, %v", reply, err)
				}
			}
		})
	}
	clients.Wait()
	if c := r.Counters(); c.Connections > 3 || c.Transactions != 80 {
		t.Fatalf("%+v", c)
	}
}

// One identity that opens transactions and stalls leaves a connection for the
// next one, and is told to come again itself.
func TestOneHolderCannotStarveTheRest(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{})
	pool := newPool(t, r, func(o *Options) { o.Connections, o.Timeouts.Wait = 3, 20*time.Millisecond })
	for range 2 {
		tx, err := pool.Begin(t.Context(), "uid:33", "", smtp.MailParams{})
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Abort()
	}
	_, err := pool.Begin(t.Context(), "uid:33", "", smtp.MailParams{})
	var failure *Error
	if !errors.As(err, &failure) || failure.Step != StepWait || failure.ClientReply().String() != "451 4.4.5 all connections to the relay are busy, try again soon" {
		t.Fatalf("%v", err)
	}
	tx, err := pool.Begin(t.Context(), "uid:34", "", smtp.MailParams{})
	if err != nil {
		t.Fatal(err)
	}
	tx.Abort()
}

func TestIdleConnectionsEnd(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{})
	pool := newPool(t, r, func(o *Options) { o.IdleTimeout = 20 * time.Millisecond })
	if err := pool.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); r.Counters().Open > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("an idle connection was kept")
		}
	}
}

// A session that is cut off takes its transaction with it, whatever the relay
// is doing at that time.
func TestContextEndsATransaction(t *testing.T) {
	for _, step := range []testkit.RelayStep{testkit.StepRcpt, testkit.StepData, testkit.StepContent, testkit.StepEnd} {
		for _, without := range [][]string{nil, {"CHUNKING"}} {
			if step == testkit.StepData && without == nil {
				continue
			}
			r := startRelay(t, testkit.RelayOptions{Without: without})
			r.On(step, testkit.Fault{Act: testkit.Stall})
			pool := newPool(t, r, func(o *Options) {
				o.Timeouts.Command, o.Timeouts.Block, o.Timeouts.DataEnd = time.Hour, time.Hour, time.Hour
			})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_, _, err := send(ctx, pool, strings.Repeat("x: y\r\n", 2_000_000), "a@x.test")
			cancel()
			var failure *Error
			if !errors.As(err, &failure) {
				t.Errorf("%s: %v", step, err)
			}
			if pool.slots.free != pool.options.Connections {
				t.Errorf("%s: %d of %d slots are free", step, pool.slots.free, pool.options.Connections)
			}
		}
	}
}

// Retire closes what is idle, and what is lent when it comes back.
func TestRetire(t *testing.T) {
	r := startRelay(t, testkit.RelayOptions{})
	pool := newPool(t, r, nil)
	tx, err := pool.Begin(t.Context(), "uid:33", "from@example.com", smtp.MailParams{})
	if err != nil {
		t.Fatal(err)
	}
	pool.Retire()
	if _, err := tx.Recipients(t.Context(), []smtp.Recipient{{Address: "a@x.test"}}); err != nil {
		t.Fatal(err)
	}
	tx.Write([]byte("a: b\r\n\r\n"))
	if reply, err := tx.Finish(); err != nil || reply.Code != 250 {
		t.Fatalf("%v, %v", reply, err)
	}
	if len(pool.idle) != 0 {
		t.Fatal("a retired pool keeps connections")
	}
}
