package proxy

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// ErrNotSuspended says that there is nothing to resume.
var ErrNotSuspended = errors.New("it is not suspended")

// Suspend switches a sender off: nothing of it is accepted any more, its sessions
// are being ended, and its messages in the spool go into hold. All that is so with
// an error, too, which says that it may not outlive the process.
func (w *Warden) Suspend(s limit.Suspension) error {
	err := w.limits.Suspend(s)
	w.log.Warn("suspended", zap.String(logfields.Identity, s.Key), zap.String(logfields.Reason, s.Reason), zap.String(logfields.By, s.By))
	w.write(&audit.Event{
		Time: time.Now(), Kind: audit.KindSuspension, Outcome: audit.OutcomeSuspended,
		Identity: s.Key, Reason: s.Reason, Until: s.Until, By: s.By,
	})
	w.tell(Alarm{Kind: AlarmSuspension, Identity: s.Key, Text: "suspended: " + s.Reason})
	server, runner := w.overseen()
	if server != nil {
		server.each(func(session *session) { session.cutIfSuspended(s.Key) })
	}
	if runner != nil {
		runner.holdSuspended(s.Key)
	}
	w.noteChange()
	return err
}

// suspendLater is Suspend for a session, which is one of those that will be
// ended; Close waits for it.
func (w *Warden) suspendLater(s limit.Suspension) {
	if _, already := w.limits.Suspended(s.Since, s.Key); already || !w.begin() {
		return
	}
	go func() { // Close waits for it
		defer w.orders.Done()
		if err := w.Suspend(s); err != nil {
			w.log.Error("suspended, but that is not on disk", zap.String(logfields.Identity, s.Key), zap.Error(err))
		}
	}()
}

// Resume lets a sender go on; its messages leave the hold. by is who ordered it.
func (w *Warden) Resume(key, by string) error {
	was, err := w.limits.Resume(key)
	if was { // also where that is not on disk yet
		w.resumed(key, by)
		w.noteChange()
	} else if err == nil {
		return ErrNotSuspended
	}
	return err
}

func (w *Warden) resumed(key, by string) {
	w.log.Info("resumed", zap.String(logfields.Identity, key), zap.String(logfields.By, by))
	w.write(&audit.Event{Time: time.Now(), Kind: audit.KindSuspension, Outcome: audit.OutcomeResumed, Identity: key, By: by})
	w.tell(Alarm{Kind: AlarmSuspension, Identity: key, Text: "resumed by " + by})
	if _, runner := w.overseen(); runner != nil {
		runner.reload()
	}
}

// Suspensions are those in force.
func (w *Warden) Suspensions() []limit.Suspension {
	if w == nil {
		return nil
	}
	now := time.Now()
	return slices.DeleteFunc(w.limits.Suspensions(), func(s limit.Suspension) bool { return isOver(s, now) })
}

func isOver(s limit.Suspension, now time.Time) bool { return !s.Until.IsZero() && !now.Before(s.Until) }

// Open begins the work on suspensions that were there before the start.
func (w *Warden) Open() { w.noteChange() }

// noteChange tells who wants to know of all suspensions, and sees to the end of
// the first that has one.
func (w *Warden) noteChange() {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.Suspensions()
	w.changed(all)
	var first time.Time
	for _, s := range all {
		if !s.Until.IsZero() && (first.IsZero() || s.Until.Before(first)) {
			first = s.Until
		}
	}
	if w.expiry != nil {
		w.expiry.Stop()
	}
	if !first.IsZero() && !w.closed {
		w.expiry = time.AfterFunc(min(time.Until(first), lookAgain), w.expire)
	}
}

// lookAgain is how late the end of a suspension is noticed at most after the
// clock was set forwards.
const lookAgain = 10 * time.Minute

// expire resumes those whose time is over.
func (w *Warden) expire() {
	if !w.begin() {
		return
	}
	defer w.orders.Done()
	now := time.Now()
	for _, s := range w.limits.Suspensions() {
		if !isOver(s, now) {
			continue
		}
		was, err := w.limits.Resume(s.Key)
		if err != nil {
			w.log.Error("suspension not removed from the disk, it is over all the same", zap.String(logfields.Identity, s.Key), zap.Error(err))
		}
		if was {
			w.resumed(s.Key, "the end of its time")
		}
	}
	w.noteChange()
}

// begin says that something is done that Close waits for; false after it.
func (w *Warden) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.orders.Add(1)
	}
	return !w.closed
}

// Close waits for what was begun. The limiter is not its to close.
func (w *Warden) Close(context.Context) error {
	w.mu.Lock()
	w.closed = true
	if w.expiry != nil {
		w.expiry.Stop()
	}
	w.mu.Unlock()
	w.orders.Wait()
	return nil
}

// suspension is the one that a sender is under.
func (w *Warden) suspension(k *Keys, now time.Time) (limit.Suspension, bool) {
	if w == nil {
		return limit.Suspension{}, false
	}
	return w.limits.Suspended(now, k.Suspendable...)
}

// Whom a suspension is for hears of it in these words.
const textSuspended = "identity suspended"

// suspended is the refusal of a message of who is suspended. Only an end that is
// known makes waiting worth while.
func (s *session) suspended(by limit.Suspension) smtp.Reply {
	t := s.transaction
	t.decision = policy.Decision{Result: policy.Deny, Reason: textSuspended, Rule: t.decision.Rule}
	if by.Until.IsZero() {
		return smtp.NewReply(550, smtp.EnhancedCode{5, 7, 1}, textSuspended)
	}
	t.decision.Result, t.opens = policy.Defer, by.Until
	return smtp.NewReply(450, smtp.EnhancedCode{4, 7, 1}, textSuspended+", try again "+opening(by.Until))
}

// cutIfSuspended ends the session if it is one of the sender's. It is called by
// another goroutine.
func (s *session) cutIfSuspended(key string) {
	if k := s.known.Load(); k != nil && slices.Contains(k.Suspendable, key) {
		s.expelled.Store(true)
		s.cutOff()
	}
}
