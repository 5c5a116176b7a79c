package proxy

import (
	"errors"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// settlement is what a try has come to for a message, as the spool shall have
// it: gone, or in a state with its progress.
type settlement struct {
	gone     bool
	progress spool.Progress
	to       spool.State
}

// settle brings a settlement into the spool. Where that fails, as with a full
// disk, it is kept and comes before the next try: whom the relay has served is
// not to be served again.
func (r *Runner) settle(id string, s settlement) bool {
	var err error
	if s.gone {
		err = r.spool.Remove(id)
	} else {
		err = r.spool.Settle(id, s.progress, s.to)
	}
	if err == nil || errors.Is(err, spool.ErrUnknown) {
		r.unsettled.Delete(id)
		return true
	}
	r.unsettled.Store(id, s)
	r.log.Error("outcome of a delivery could not be written to the spool, that is tried again",
		zap.String(logfields.Txn, id), zap.Error(err))
	return false
}

// settleFirst writes an outcome that is due from before. ready says that the
// message may be tried then.
func (a *attempt) settleFirst() (ready, again bool) {
	due, waits := a.runner.unsettled.Load(a.next.ID)
	if !waits {
		return true, false
	}
	s := due.(settlement)
	if !a.runner.settle(a.next.ID, s) {
		a.next.Next = a.began.Add(restTime)
		return false, true
	}
	a.next.Next = s.progress.Next
	return false, !s.gone && s.to == spool.Deferred
}

// settleAll is the last chance at the end.
func (r *Runner) settleAll() {
	r.unsettled.Range(func(id, s any) bool {
		r.settle(id.(string), s.(settlement))
		return true
	})
}
