package alert

import (
	"fmt"
	"slices"
	"time"
)

const (
	period    = 10 * time.Minute // one alert of a kind and identity, and what follows within it one more
	maxAlerts = 20               // within a period; what is beyond becomes one storm
	maxKeys   = 1000             // kinds and identities counted at a time
	maxQueue  = 64               // alerts that wait for their delivery
)

// limiter makes few alerts of many events, of one rank and for one target. It
// starts no goroutine and has no clock; no count is lost in it.
type limiter struct {
	open  map[key]*window
	order []*window // by end, the soonest first
	storm *storm
	left  []time.Time // when the latest alerts were made, maxAlerts of them at most
	queue []Alert
}

// key is what is told once.
type key struct{ kind, identity string }

// window is the time after an alert in which its like are counted.
type window struct {
	key
	end    time.Time
	count  int
	since  time.Time
	latest Event
}

func newLimiter() *limiter { return &limiter{open: map[key]*window{}} }

// raise takes an event: as an alert of its own if it is the first of its like.
func (l *limiter) raise(now time.Time, event Event) {
	l.due(now)
	event = event.bounded(now)
	like := key{event.Kind, event.Identity}
	if window := l.open[like]; window != nil {
		window.add(event)
		return
	}
	if len(l.open) >= maxKeys {
		l.collect(now, now.Add(period), event.alert())
		return
	}
	window := &window{key: like, end: now.Add(period)}
	l.open[like] = window
	l.order = append(l.order, window)
	l.make(now, event.alert())
}

func (w *window) add(event Event) {
	if w.count == 0 {
		w.since = event.Time
	}
	w.count += event.Count
	w.latest = event
}

// due makes the alerts whose time has come.
func (l *limiter) due(now time.Time) {
	for len(l.order) > 0 && !now.Before(l.order[0].end) {
		window := l.order[0]
		l.order = l.order[1:]
		if window.count == 0 {
			delete(l.open, window.key)
			continue
		}
		l.make(now, window.alert())
		window.count, window.latest = 0, Event{}
		window.end = now.Add(period)
		l.order = append(l.order, window)
	}
	if l.storm != nil && len(l.queue) < maxQueue && !now.Before(l.storm.end) && !now.Before(l.opens()) {
		l.push(now, l.storm.alert())
		l.storm = nil
	}
}

// opens is when one more alert is not too many; zero is at once.
func (l *limiter) opens() time.Time {
	if len(l.left) < maxAlerts {
		return time.Time{}
	}
	return l.left[0].Add(period)
}

// next is when due has something to do; zero is never.
func (l *limiter) next() time.Time {
	var next time.Time
	if len(l.order) > 0 {
		next = l.order[0].end
	}
	if l.storm == nil || len(l.queue) == maxQueue {
		return next
	}
	end := l.storm.end
	if opens := l.opens(); opens.After(end) {
		end = opens
	}
	if next.IsZero() || end.Before(next) {
		next = end
	}
	return next
}

// make lets an alert out, if there is room among the latest and in the queue;
// else it becomes part of a storm.
func (l *limiter) make(now time.Time, alert Alert) {
	switch {
	case l.storm != nil:
		l.collect(now, l.storm.end, alert)
	case now.Before(l.opens()):
		l.collect(now, l.opens(), alert)
	case len(l.queue) == maxQueue:
		l.collect(now, now, alert)
	default:
		l.push(now, alert)
	}
}

func (l *limiter) push(now time.Time, alert Alert) {
	if len(l.left) == maxAlerts {
		l.left = slices.Delete(l.left, 0, 1)
	}
	l.left = append(l.left, now)
	l.queue = append(l.queue, alert)
}

// collect adds an alert to the storm, which ends then if it begins with it.
func (l *limiter) collect(now, end time.Time, alert Alert) {
	if l.storm == nil {
		l.storm = &storm{end: end, since: now, kinds: map[string]*gust{}, first: alert}
	}
	l.storm.add(alert)
}

// pop takes the next alert to deliver.
func (l *limiter) pop() (Alert, bool) {
	if len(l.queue) == 0 {
		return Alert{}, false
	}
	alert := l.queue[0]
	l.queue = slices.Delete(l.queue, 0, 1)
	return alert, true
}

// flush ends all counting: what is counted becomes one storm, however full the
// queue is.
func (l *limiter) flush(now time.Time) {
	for _, window := range l.order {
		if window.count > 0 {
			l.collect(now, now, window.alert())
		}
	}
	l.order, l.open = nil, map[key]*window{}
	if l.storm != nil {
		l.push(now, l.storm.alert())
		l.storm = nil
	}
}

// alert is the one for what was counted.
func (w *window) alert() Alert {
	alert := w.latest.alert()
	alert.Count, alert.Since = w.count, w.since
	if w.count > 1 {
		alert.Text = cut(fmt.Sprintf("%d more since the last alert, the latest: %s", w.count, w.latest.Text))
	}
	return alert
}
