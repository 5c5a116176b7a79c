package relay

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

func TestComplaints(t *testing.T) {
	for _, test := range []struct {
		reply             string
		mail, rcpt, later bool // to MAIL, to the first RCPT, to one behind an accepted one
	}{
		{"450 4.7.1 too many messages from you", true, true, true},
		{"450 too fast", true, false, false},
		{"451 4.3.2 busy", true, true, true},
		{"451 4.4.5 congested", true, true, true},
		{"452 4.5.3 too many", true, true, false},
		{"452 4.3.1 no room", true, false, false},
		{"450 4.1.8 your domain has no address", false, false, false},
		{"450 4.2.1 mailbox busy", false, false, false},
		{"451 4.5.1 what", false, false, false},
		{"451 4.6.0 content", false, false, false},
		{"421 4.7.0 slow down", true, true, true},
		{"550 5.7.1 no", false, false, false},
		{"250 2.0.0 ok", false, false, false},
	} {
		reply, err := smtp.ReadReply(smtp.NewReader(strings.NewReader(test.reply+"\r\n"), make([]byte, 100)))
		if err != nil {
			t.Fatal(err)
		}
		mail, rcpt, later := complains(reply), complainsAtRcpt(reply, true), complainsAtRcpt(reply, false)
		if mail != test.mail || rcpt != test.rcpt || later != test.later {
			t.Errorf("%q: %v, %v, %v", test.reply, mail, rcpt, later)
		}
	}
}

// Each complaint doubles the time between two messages, each message that is
// taken shortens it by a fifth, until there is none.
func TestPaceIsLearnt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, nil)
		relay.set(replying("MAIL", "450 4.7.1 too many messages"))
		want := 100 * time.Millisecond
		for range 12 {
			_, at := pool.Ready(time.Now())
			time.Sleep(time.Until(at))
			if err := deliver(t.Context(), pool, "uid:33"); err == nil || errors.As(err, new(*Error)) {
				t.Fatal(err)
			}
			if pace := pool.Status(time.Now()).Pace; pace != want {
				t.Fatalf("the pace is %v, want %v", pace, want)
			}
			want = min(2*want, slowestPace)
		}
		// Now there is no turn within a client's patience, and the queue is told when.
		began := time.Now()
		err := deliver(t.Context(), pool, "uid:33")
		var failure *Error
		if !errors.As(err, &failure) || failure.Step != StepPace || !failure.Away() || time.Since(began) != 0 {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		if told := failure.ClientReply().String(); told != "451 4.4.5 the relay takes messages slowly now, try again soon" {
			t.Error(told)
		}
		if status := pool.Status(began); status.Breaker != BreakerClosed || status.Error != "" {
			t.Errorf("a slow relay is not a failed one: %+v", status)
		}
		ok, at := pool.Ready(began)
		if ok || at.Sub(began) != slowestPace-defaultPace {
			t.Fatalf("ready %v in %v", ok, at.Sub(began))
		}
		relay.set(nil)
		before := slowestPace
		for messages := 0; before > 0; messages++ {
			_, at := pool.Ready(time.Now())
			time.Sleep(time.Until(at))
			if err := deliver(t.Context(), pool, "uid:33"); err != nil || messages > 40 {
				t.Fatal(messages, err)
			}
			pace := pool.Status(time.Now()).Pace
			if pace != before*4/5 && pace != 0 {
				t.Fatalf("the pace went from %v to %v", before, pace)
			}
			before = pace
		}
		deliverAll(t, pool, 4)
		if last := relay.mails[len(relay.mails)-4:]; last[3].Sub(last[0]) != 0 {
			t.Fatal("a pace is kept that was forgotten")
		}
	})
}

// Complaints about messages that were begun before the pace was raised do not
// raise it again.
func TestBurstOfComplaintsIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, nil)
		relay.set(func(command string) string {
			if strings.HasPrefix(command, "MAIL") {
				time.Sleep(time.Second)
				return "450 4.7.1 too many messages"
			}
			return ""
		})
		var clients sync.WaitGroup
		for i := range 4 {
			clients.Go(func() { _ = deliver(t.Context(), pool, fmt.Sprint("uid:", i)) })
		}
		clients.Wait()
		if pace := pool.Status(time.Now()).Pace; pace != 100*time.Millisecond {
			t.Fatal(pace)
		}
	})
}

// The rate of the configuration holds whatever the clients do, and who would
// have to wait too long for a turn is sent to the queue at once.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, func(o *Options) { o.Rate, o.Connections = 10, 50 })
		if err := pool.Probe(t.Context()); err != nil { // which takes no turn
			t.Fatal(err)
		}
		var clients sync.WaitGroup
		var mu sync.Mutex
		paced := 0
		for i := range 100 {
			clients.Go(func() {
				err := deliver(t.Context(), pool, fmt.Sprint("uid:", i))
				mu.Lock()
				defer mu.Unlock()
				var failure *Error
				switch {
				case errors.As(err, &failure) && failure.Step == StepPace:
					paced++
				case err != nil:
					t.Error(err)
				}
			})
		}
		clients.Wait()
		if len(relay.mails) != 21 || paced != 79 { // now, and in 2 seconds
			t.Fatalf("%d messages went, %d were sent away", len(relay.mails), paced)
		}
		for i, at := range relay.mails[1:] {
			if since := at.Sub(relay.mails[i]); since != 100*time.Millisecond {
				t.Fatalf("message %d came %v after the one before", i+1, since)
			}
		}
	})
}

// However many of one holder wait for a turn, another's message goes next.
func TestPaceIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, func(o *Options) { o.Rate, o.Connections = 2, 50 })
		done := make(chan struct{})
		var crowd sync.WaitGroup
		for range 10 {
			crowd.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						if deliver(t.Context(), pool, "crowd") != nil {
							time.Sleep(10 * time.Millisecond)
						}
					}
				}
			})
		}
		time.Sleep(10 * time.Second)
		for range 10 {
			began := time.Now()
			if err := deliver(t.Context(), pool, "other"); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began) - time.Second; waited > time.Second {
				t.Fatalf("waited %v for a turn that comes each half second", waited)
			}
		}
		close(done)
		crowd.Wait()
		if status := pool.Status(time.Now()); status.Lent != 0 || len(pool.slots.holders) != 0 || len(pool.slots.turn) != 0 {
			t.Fatalf("%+v", status)
		}
	})
}
