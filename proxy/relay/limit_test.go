package relay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// makeRoom makes the relay serve so many connections at a time.
func (f *fakeRelay) makeRoom(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room = n
}

// deliver sends one message that takes a second, and tells the error.
func deliver(ctx context.Context, pool *Pool, holder string) error {
	tx, err := pool.Begin(ctx, holder, "from@example.com", smtp.MailParams{})
	if err != nil {
		return err
	}
	defer tx.Abort()
	replies, err := tx.Recipients(ctx, []smtp.Recipient{{Address: "a@x.test"}})
	if err != nil {
		return err
	}
	if !replies[0].Positive() {
		return fmt.Errorf("refused: %v", replies[0])
	}
	time.Sleep(time.Second)
	tx.Write([]byte("a: b\r\n\r\n"))
	reply, err := tx.Finish()
	if err == nil && !reply.Positive() {
		err = fmt.Errorf("refused: %v", reply)
	}
	return err
}

// deliverAll sends n messages of one holder each at once.
func deliverAll(t *testing.T, pool *Pool, n int) {
	t.Helper()
	var clients sync.WaitGroup
	for i := range n {
		clients.Go(func() {
			if err := deliver(t.Context(), pool, fmt.Sprint("uid:", i)); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	clients.Wait()
}

// A relay that takes fewer connections than we may open gets no more of them,
// and no client hears of it: they share those that there are. When the relay
// has more room we find out by and by.
func TestLimitIsLearnt(t *testing.T) {
	for _, step := range []string{"CONNECT", "EHLO"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				relay := &fakeRelay{room: 3, step: step}
				pool := relay.pool(t, func(o *Options) { o.Connections = 10 })
				deliverAll(t, pool, 40)
				status := pool.Status(time.Now())
				if status.Cap != 3 || status.Max != 10 || status.Lent != 0 || status.Breaker != BreakerClosed || status.Open > 3 {
					t.Fatalf("%+v", status)
				}
				// What the relay refused is tried again once a minute at most.
				before := len(strings.Fields(relay.took()))
				for range 10 {
					deliverAll(t, pool, 12)
				}
				if dials := len(strings.Fields(relay.took())); before > 40 || dials > 3 {
					t.Fatalf("%d dials at first, then %d", before, dials)
				}
				relay.makeRoom(10)
				for range 20 {
					deliverAll(t, pool, 60)
				}
				if status := pool.Status(time.Now()); status.Cap != 10 || relay.most < 10 {
					t.Fatalf("%+v, %d connections at most", status, relay.most)
				}
			})
		})
	}
}

// The limit grows with time too, for a relay that gets little mail.
func TestLimitGrowsWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{room: 2, step: "CONNECT"}
		pool := relay.pool(t, func(o *Options) { o.Connections = 5 })
		deliverAll(t, pool, 5)
		if limit := pool.Status(time.Now()).Cap; limit != 2 {
			t.Fatalf("the limit is %d", limit)
		}
		relay.makeRoom(5)
		time.Sleep(3 * time.Minute)
		if limit := pool.Status(time.Now()).Cap; limit != 5 {
			t.Fatalf("the limit is %d", limit)
		}
		relay.took()
		deliverAll(t, pool, 5)
		if dials := len(strings.Fields(relay.took())); dials != 5 {
			t.Fatalf("%d connections were opened", dials)
		}
	})
}

// 421 to MAIL may be about the sender: it slows this one down and takes no
// connection from the others.
func TestTurnedAwayAtMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, func(o *Options) { o.Connections = 10 })
		relay.set(replying("MAIL FROM:<bad@", "421 4.7.0 too many"))
		for i := range 40 {
			tx, err := pool.Begin(t.Context(), "uid:33", "good@example.com", smtp.MailParams{})
			if err != nil {
				t.Fatal(err)
			}
			pool.trim(0) // so that the next one dials
			offer(t, pool, fmt.Sprint("uid:", 1000+i%2), "bad@example.com")
			tx.Abort()
			if got := offer(t, pool, "uid:33", "good@example.com"); got != "" {
				t.Fatal(got)
			}
			time.Sleep(time.Second)
		}
		if status := pool.Status(time.Now()); status.Cap != 10 || status.Slowed != 2 || status.Pace != 0 {
			t.Fatalf("%+v", status)
		}
	})
}

// A relay that turns everybody away is away, whatever the number.
func TestEverybodyTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		relay.set(replying("CONNECT", "421 4.3.2 closing down"))
		pool := relay.pool(t, func(o *Options) { o.Connections = 10 })
		var clients sync.WaitGroup
		for i := range 40 {
			clients.Go(func() {
				if err := deliver(t.Context(), pool, fmt.Sprint("uid:", i)); err == nil {
					t.Error("no error")
				}
			})
		}
		clients.Wait()
		if status := pool.Status(time.Now()); status.Breaker != BreakerOpen || status.Cap != 10 || status.Lent != 0 {
			t.Fatalf("%+v", status)
		}
		relay.set(nil)
		time.Sleep(6 * time.Second)
		if err := deliver(t.Context(), pool, "uid:1"); err != nil {
			t.Fatal(err)
		}
	})
}

// However the limit falls and grows, no more are lent than it says at the time
// of the grant, nobody who fits waits, and all come back.
func TestSlotsWithAChangingLimit(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		s := newSlots(1+random.IntN(20), 0, 0)
		held := map[string]int{}
		answers := map[string][]chan error{}
		collect := func() {
			for name, waiting := range answers {
				for len(waiting) > 0 && len(waiting[0]) > 0 {
					if err := <-waiting[0]; err != nil {
						t.Fatal(err)
					}
					waiting = waiting[1:]
					held[name]++
				}
				answers[name] = waiting
			}
		}
		lent := func() (n int) {
			for _, h := range held {
				n += h
			}
			return n
		}
		for range 400 {
			name := fmt.Sprint("holder ", random.IntN(4))
			before := lent()
			switch random.IntN(5) {
			case 0, 1:
				answer, _, _, _ := s.request(name)
				if answer == nil {
					held[name]++
				} else {
					answers[name] = append(answers[name], answer)
				}
			case 2, 3:
				if held[name] > 0 {
					held[name]--
					s.release(name)
				}
			case 4:
				if random.IntN(2) == 0 {
					s.crowded(random.IntN(3))
				} else {
					s.answered(name, true)
				}
			}
			collect()
			n := lent()
			if s.free != s.limit.now-n || n > s.limit.now && n > before {
				t.Fatalf("seed %d: %d lent after %d, limit %d, %d free", seed, n, before, s.limit.now, s.free)
			}
			for _, h := range s.turn {
				if s.fits(h, time.Time{}) {
					t.Fatalf("seed %d: %s waits and fits: %d held, %d free", seed, h.name, h.held, s.free)
				}
			}
		}
		for n := lent(); n > 0; n = lent() {
			for name := range held {
				for ; held[name] > 0; held[name]-- {
					s.release(name)
				}
				collect()
			}
		}
		if len(s.turn) != 0 || len(s.holders) != 0 || s.free != s.limit.now {
			t.Fatalf("seed %d: %d wait, %d known, %d of %d free", seed, len(s.turn), len(s.holders), s.free, s.limit.now)
		}
	}
}
