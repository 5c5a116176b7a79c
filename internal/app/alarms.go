package app

import (
	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy"
)

// alarms says in the log what somebody should look at.
type alarms struct{ log *zap.Logger }

// warden hears of senders.
func (a *alarms) warden(alarm proxy.Alarm) {
	a.log.Info("alarm", zap.String(logfields.Kind, alarm.Kind), zap.String(logfields.Identity, alarm.Identity), zap.String(logfields.Reason, alarm.Text))
}
