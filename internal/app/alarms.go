package app

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/alert"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/proxy"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/peer"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// alarms makes alerts of what happens: what the proxy's warden tells, what the
// guard tells, and conditions that begin and end.
type alarms struct {
	alerter *alert.Alerter
	owner   uidOwner
	log     *zap.Logger
}

// uidOwner is the user who has a uid as a subordinate one, as peer.Users knows it.
type uidOwner func(uid uint32) (owner uint32, ok bool)

// How often alarms looks at conditions, and after what time it watches a guard
// again that was away.
const (
	lookInterval = 15 * time.Second
	watchAgain   = 5 * time.Second
)

func openAlarms(cfg *config.Config, host string, log *zap.Logger) (*alarms, error) {
	targets, err := newTargets(cfg.Alerts)
	if err != nil {
		return nil, err
	}
	return &alarms{
		alerter: alert.New(alert.Options{Host: host, Targets: targets, Logger: log.Named("alert")}),
		owner:   peer.NewUsers("", "", log).Owner, log: log,
	}, nil
}

// newTargets are who is told.
func newTargets(from []config.Alert) (targets []alert.Target, err error) {
	for _, a := range from {
		target := alert.Target{Exec: a.Exec, URL: a.Webhook, Events: a.Events}
		if a.Secret.IsSet() {
			target.Secret = []byte(a.Secret.Reveal())
		}
		if a.CAFile != "" {
			if target.Roots, err = readRoots(a.CAFile); err != nil {
				return nil, fmt.Errorf("[[alert]] %s: %w", cmp.Or(a.Webhook, strings.Join(a.Exec, " ")), err)
			}
		}
		targets = append(targets, target)
	}
	return targets, nil
}

func readRoots(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return roots, nil
}

func (a *alarms) raise(kind, identity, text string) {
	a.alerter.Raise(alert.Event{Kind: kind, Identity: identity, Text: text, Time: time.Now()})
}

// raiseEvent tells of an event of the guard, with what the log has of it.
func (a *alarms) raiseEvent(kind, identity, text string, event *audit.Event) {
	a.alerter.Raise(alert.Event{Kind: kind, Identity: identity, Text: text, Time: event.Time, Count: int(event.Count), Fields: fieldsOf(event)})
}

// fieldsOf are the members of an event that are words or numbers.
func fieldsOf(event *audit.Event) map[string]string {
	decoder := json.NewDecoder(bytes.NewReader(event.AppendJSON(nil)))
	decoder.UseNumber() // digits as they stand
	var members map[string]any
	if decoder.Decode(&members) != nil {
		return nil
	}
	fields := map[string]string{}
	for key, value := range members {
		switch value.(type) {
		case string, json.Number, bool:
			fields[key] = fmt.Sprint(value)
		}
	}
	return fields
}

// warden hears of senders.
func (a *alarms) warden(alarm proxy.Alarm) { a.raise(alarm.Kind, alarm.Identity, alarm.Text) }

// watchGuard hears of what the guard sees, until ctx ends.
func (a *alarms) watchGuard(ctx context.Context, path string) {
	client := guard.NewClient(path, a.log)
	defer func() { _ = client.Close() }() // it was only read from
	for ctx.Err() == nil {
		_ = client.Watch(ctx, a.guard) // away: tried again
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
}

// guard hears of one event of the guard's.
func (a *alarms) guard(event *audit.Event) {
	switch event.Kind {
	case audit.KindAttempt:
		if event.Outcome == audit.OutcomeBlocked || event.Outcome == audit.OutcomeWouldBlock {
			a.raiseEvent(config.AlertBlocked, senderOf(event, a.owner), attemptSentence(event), event)
		}
	case audit.KindDrift:
		a.raiseEvent(config.AlertDrift, "", "the firewall's rules were changed by others: "+event.Reason+" ("+event.Outcome+")", event)
	case audit.KindMode:
		if event.Reason == guard.ReasonStarted || event.Reason == guard.ReasonEnded {
			return // it says between what times was watched, and nothing new
		}
		a.raiseEvent(config.AlertMode, "", "the guard is in "+event.Outcome+" mode: "+event.Reason+" (by "+event.By+")", event)
	}
}

// attemptSentence says on one line who dialled what.
func attemptSentence(event *audit.Event) string {
	what := map[string]string{audit.OutcomeBlocked: "blocked", audit.OutcomeWouldBlock: "would be blocked"}[event.Outcome]
	text := "a direct connection to " + event.Destination.String() + " " + what
	for _, part := range [][2]string{{"user", event.PeerUser}, {"unit", event.PeerUnit}, {"container", event.PeerContainer}, {"program", event.PeerExe}} {
		if part[1] != "" {
			text += ", " + part[0] + " " + strconv.Quote(part[1])
		}
	}
	return text
}

// senderOf is the key of whoever made an attempt, or the address of somebody
// behind this host. A user with subordinate uids is one sender by all of them.
func senderOf(event *audit.Event, owned uidOwner) string {
	kept := spool.Identity{Container: event.PeerContainer}
	if uid, known := event.PeerUID.Get(); known {
		kept.UID = &uid
		if owner, ok := owned(uid); ok {
			kept.Owner = &owner
		}
	}
	if kept.UID == nil && kept.Container == "" && event.Source.IsValid() {
		return "address:" + event.Source.Addr().String()
	}
	return kept.Key()
}

// lookRegularly makes alerts of conditions that begin, and of their ends, until
// ctx ends.
func (a *alarms) lookRegularly(ctx context.Context, conditions func() map[string]string) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	var before map[string]string
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := conditions()
		a.compare(before, now)
		before = now
	}
}

// compare raises what is new, and what is over.
func (a *alarms) compare(before, now map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if _, known := before[name]; !known {
			kind, part := kindOfCondition(name)
			a.raise(kind, part, name+": "+now[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, still := now[name]; !still {
			kind, part := kindOfCondition(name)
			a.raise(kind, part, name+": over")
		}
	}
}

// kindOfCondition is the event that a condition is one of, and which relay,
// certificate or filter has it: each of them is told of by itself.
func kindOfCondition(name string) (kind, part string) {
	kind, part, _ = strings.Cut(name, " ")
	if kind == "limits" {
		return config.AlertLimit, ""
	}
	return kind, part
}

// close gives the last alerts a moment. One whose program or service hangs must
// not make the stop of a mail service look failed.
func (a *alarms) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lastAlerts)
	defer cancel()
	if err := a.alerter.Close(ctx); err != nil {
		a.log.Warn("alerts were given up at the end", zap.Error(err))
	}
	return nil
}

// lastAlerts is how long a stop waits for alerts that are being delivered.
const lastAlerts = 3 * time.Second
