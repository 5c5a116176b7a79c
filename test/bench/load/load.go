package load

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Plan says how much to send.
type Plan struct {
	Connections int           // sessions at the same time
	Messages    int           // a session
	Sessions    int           // in all; 0: until Time is over
	Time        time.Duration // after that no further message begins; 0: no limit
	Size        int           // bytes of a message, the header section included
	Pipelining  bool          // MAIL, RCPT and DATA in one flight
	Run         string        // part of each message's name; unique to the run
}

// Result is what a run of the load generator did.
type Result struct {
	Sent      []Sent          // answered with 250
	Latencies []time.Duration // MAIL to the last reply, sorted
	Begin     time.Time
	Elapsed   time.Duration
	Failed    int   // sessions that ended otherwise than planned
	Err       error // of the first that failed
}

// Median is the p50 of the latencies; 0 without any.
func (r Result) Median() time.Duration {
	if len(r.Latencies) == 0 {
		return 0
	}
	return r.Latencies[len(r.Latencies)/2]
}

// worker is one of the concurrent connections, with results of its own.
type worker struct {
	plan      Plan
	target    Target
	number    int
	stop      time.Time
	next      *atomic.Int64
	message   message
	count     int
	sent      []Sent
	latencies []time.Duration
	failed    int
	err       error
}

// Run submits as planned and returns when all sessions have ended.
func Run(ctx context.Context, target Target, plan Plan) Result {
	text := body(max(plan.Size-300, 100)) // the header section is about 300 bytes
	workers := make([]*worker, plan.Connections)
	var next atomic.Int64
	begin := time.Now()
	var group sync.WaitGroup
	for i := range workers {
		w := &worker{plan: plan, target: target, number: i, next: &next, message: message{body: text}}
		if plan.Time > 0 {
			w.stop = begin.Add(plan.Time)
		}
		workers[i] = w
		group.Go(func() { w.run(ctx) })
	}
	group.Wait()
	result := Result{Begin: begin, Elapsed: time.Since(begin)}
	for _, w := range workers {
		result.Sent = append(result.Sent, w.sent...)
		result.Latencies = append(result.Latencies, w.latencies...)
		result.Failed += w.failed
		if result.Err == nil {
			result.Err = w.err
		}
	}
	slices.Sort(result.Latencies)
	return result
}

func (w *worker) run(ctx context.Context) {
	for !w.over(ctx) {
		if w.plan.Sessions > 0 && w.next.Add(1) > int64(w.plan.Sessions) {
			return
		}
		err := w.session(ctx)
		if err == nil {
			continue
		}
		w.failed++
		if w.err == nil {
			w.err = err
		}
		if w.failed >= 10 {
			return // no point in hammering a peer that does not work
		}
	}
}

func (w *worker) over(ctx context.Context) bool {
	return ctx.Err() != nil || !w.stop.IsZero() && time.Now().After(w.stop)
}

func (w *worker) session(ctx context.Context) error {
	c, err := dial(ctx, w.target)
	if err != nil {
		return err
	}
	defer c.quit()
	for i := 0; i < w.plan.Messages && (i == 0 || !w.over(ctx)); i++ {
		w.count++
		name := fmt.Sprintf("m%d.%d.%s@bench.test", w.number, w.count, w.plan.Run)
		w.message.headFor(name)
		begin := time.Now()
		if err := c.deliver(name, &w.message, w.plan.Pipelining); err != nil {
			return fmt.Errorf("message %d of the session: %w", i+1, err)
		}
		end := time.Now()
		w.latencies = append(w.latencies, end.Sub(begin))
		w.sent = append(w.sent, Sent{ReversePath: name, Digest: w.message.digest(), Ended: c.ended, Answered: end})
	}
	return nil
}
