package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// offer hands an envelope over and gives up behind it: "" if the relay took it.
func offer(t *testing.T, pool *Pool, holder, sender string) string {
	t.Helper()
	tx, err := pool.Begin(t.Context(), holder, sender, smtp.MailParams{})
	if err != nil {
		var failure *Error
		if !errors.As(err, &failure) {
			t.Error(err)
			return "?"
		}
		return string(failure.Step)
	}
	defer tx.Abort()
	replies, err := tx.Recipients(t.Context(), []smtp.Recipient{{Address: "a@x.test"}})
	if err != nil || !replies[0].Positive() {
		return "refused"
	}
	tx.Write([]byte("a: b\r\n\r\n"))
	if reply, err := tx.Finish(); err != nil || !reply.Positive() {
		return "refused"
	}
	return ""
}

// However many senders the relay refuses, be it now and then or always, those
// that it does not refuse are not slowed down.
func TestRefusedSendersSlowNobodyElse(t *testing.T) {
	for _, evil := range []int{1, 2, 10} {
		for _, sometimes := range []bool{false, true} {
			t.Run(fmt.Sprint(evil, sometimes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					relay := &fakeRelay{}
					pool := relay.pool(t, func(o *Options) { o.Connections = 50 })
					relay.set(replying("MAIL FROM:<bad@", "451 4.3.0 lookup failure"))
					done := make(chan struct{})
					var attackers sync.WaitGroup
					for i := range evil {
						attackers.Go(func() { attack(t, pool, fmt.Sprint("uid:", 1000+i), sometimes, done) })
					}
					time.Sleep(2 * time.Minute) // alone
					for range 300 {
						began := time.Now()
						if got := offer(t, pool, "uid:33", "good@example.com"); got != "" || time.Since(began) != 0 {
							t.Fatalf("%q after %v", got, time.Since(began))
						}
						if ok, _ := pool.Ready(time.Now()); !ok || pool.Status(time.Now()).Pace != 0 {
							t.Fatal("the queue is told to wait")
						}
						time.Sleep(100 * time.Millisecond)
					}
					if slowed := pool.Status(time.Now()).Slowed; slowed != evil {
						t.Errorf("%d senders are slowed, want %d", slowed, evil)
					}
					close(done)
					attackers.Wait()
				})
			})
		}
	}
}

func attack(t *testing.T, pool *Pool, holder string, sometimes bool, done chan struct{}) {
	for n := 0; ; n++ {
		sender := "bad@example.com"
		if sometimes && n%5 == 0 {
			sender = "good@example.com"
		}
		offer(t, pool, holder, sender)
		select {
		case <-done:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Whom the relay refuses is slowed down, so that it does not take us for an
// abuser, and is told whether others have a turn: then its message waits, not the
// relay's queue.
func TestRefusedSenderIsSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, nil)
		relay.set(replying("MAIL FROM:<bad@", "450 4.7.1 quota of bad@ exceeded"))
		for range 8 {
			for ok, at := pool.Ready(time.Now()); !ok; ok, at = pool.Ready(time.Now()) {
				time.Sleep(time.Until(at))
			}
			if got := offer(t, pool, "uid:666", "bad@example.com"); got != "refused" {
				t.Fatal(got)
			}
		}
		if got := offer(t, pool, "uid:666", "bad@example.com"); got != string(StepPace) {
			t.Errorf("alone: %q", got)
		}
		if got := offer(t, pool, "uid:33", "good@example.com"); got != "" {
			t.Fatalf("another: %q", got)
		}
		_, err := pool.Begin(t.Context(), "uid:666", "bad@example.com", smtp.MailParams{})
		var failure *Error
		if !errors.As(err, &failure) || failure.Step != StepTurn || failure.Away() || failure.ClientReply().Enhanced != (smtp.EnhancedCode{4, 4, 5}) {
			t.Fatalf("beside another: %v", err)
		}
		relay.took()
		before := len(relay.mails)
		for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(100 * time.Millisecond) {
			offer(t, pool, "uid:666", "bad@example.com")
		}
		if n := len(relay.mails) - before; n > 13 {
			t.Errorf("%d MAILs in a minute, want one each %v", n, slowestPace)
		}
	})
}

// A relay that takes only so much from all of us teaches it to each.
func TestPaceOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, func(o *Options) { o.Connections = 50 })
		var mu sync.Mutex
		var second time.Time
		count, taken, refused := 0, 0, 0
		relay.set(func(command string) string { // ten messages a second
			mu.Lock()
			defer mu.Unlock()
			if !strings.HasPrefix(command, "MAIL") {
				return ""
			}
			if now := time.Now().Truncate(time.Second); now != second {
				second, count = now, 0
			}
			if count++; count > 10 {
				refused++
				return "450 4.7.1 too many messages"
			}
			taken++
			return ""
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		var senders sync.WaitGroup
		for i := range 20 {
			senders.Go(func() {
				for ctx.Err() == nil {
					offer(t, pool, fmt.Sprint("uid:", i), "a@example.com")
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		senders.Wait()
		if taken < 3000 || refused > taken {
			t.Errorf("%d taken of 6000, %d refused", taken, refused)
		}
		if status := pool.Status(time.Now()); status.Slowed == 0 {
			t.Errorf("%+v", status)
		}
	})
}

// What is remembered is bounded, and forgotten by and by.
func TestSlowedAreBounded(t *testing.T) {
	p, now := newPace(0), time.Unix(0, 0)
	for i := range 10 * mostSlowed {
		now = now.Add(time.Millisecond)
		p.raise(fmt.Sprint("uid:", i), 0, 1, now)
	}
	if len(p.slowed) != mostSlowed || p.slowed[fmt.Sprint("uid:", 10*mostSlowed-1)] == nil {
		t.Fatalf("%d are remembered", len(p.slowed))
	}
	p.succeed("uid:33", now.Add(forgetPace))
	if len(p.slowed) != 0 {
		t.Fatalf("%d are not forgotten", len(p.slowed))
	}
}
