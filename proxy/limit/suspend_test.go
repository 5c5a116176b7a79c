package limit

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"
)

func TestSuspend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.db")
	l := openAt(t, path)
	forever := Suspension{Key: "uid:33", Reason: "spam", By: "root", Since: start}
	hour := Suspension{Key: "unit:php-fpm.service", Since: start, Until: start.Add(time.Hour)}
	for _, s := range []Suspension{forever, hour} {
		if err := l.Suspend(s); err != nil {
			t.Fatal(err)
		}
	}
	// It is killed here, in a manner of speaking: nothing but Suspend has saved.
	if err := l.store.Close(); err != nil {
		t.Fatal(err)
	}
	close(l.stop)
	l.done.Wait()

	l = openAt(t, path)
	for _, test := range []struct {
		now  time.Time
		keys []string
		want string
	}{
		{start, []string{"uid:33"}, "uid:33"},
		{start.Add(99 * day), []string{"uid:33", "unit:php-fpm.service"}, "uid:33"},
		{start, []string{"uid:34", "unit:php-fpm.service"}, "unit:php-fpm.service"},
		{start.Add(time.Hour - 1), []string{"unit:php-fpm.service"}, "unit:php-fpm.service"},
		{start.Add(time.Hour), []string{"uid:34", "unit:php-fpm.service"}, ""},
		{start, []string{"uid:34"}, ""},
		{start, nil, ""},
	} {
		if s, ok := l.Suspended(test.now, test.keys...); s.Key != test.want || ok != (test.want != "") {
			t.Errorf("%v at %v: %+v, %v", test.keys, test.now, s, ok)
		}
	}
	if s, _ := l.Suspended(start, "uid:33"); s != forever {
		t.Errorf("%+v, want %+v", s, forever)
	}
	if all := l.Suspensions(); len(all) != 2 || all[0] != forever && all[1] != forever || all[0] != hour && all[1] != hour {
		t.Errorf("suspensions %+v", all)
	}
	if was, err := l.Resume(hour.Key); !was || err != nil {
		t.Errorf("resumed: %v, %v", was, err)
	}
	if was, err := l.Resume("uid:33"); !was || err != nil {
		t.Errorf("resumed: %v, %v", was, err)
	}
	if was, err := l.Resume("uid:33"); was || err != nil {
		t.Errorf("resumed again: %v, %v", was, err)
	}
	closed(t, l)
	l = openAt(t, path)
	defer closed(t, l)
	if s := l.Suspensions(); s != nil {
		t.Errorf("left: %+v", s)
	}
	if err := l.Suspend(Suspension{}); err == nil {
		t.Error("nobody was suspended")
	}
}

func TestSuspensionJSON(t *testing.T) {
	b, err := json.Marshal(Suspension{Key: "uid:1", Since: start})
	if want := `{"key":"uid:1","since":"2026-01-02T03:04:05Z"}`; err != nil || string(b) != want {
		t.Errorf("%s, %v, want %s", b, err, want)
	}
}

// TestResumeForgives: who was suspended for its demand is not at once suspended again
// when it is resumed, and gets no room by it.
func TestResumeForgives(t *testing.T) {
	l := open(t)
	ladder := Ladder{{Defer, 100}, {Suspend, 400}}
	budgets := []Budget{
		{Key: "uid:1", Limits: []Limit{{Messages, 10, time.Hour}}},
		{Key: "user:uid:1", Limits: []Limit{{Messages, 10, time.Hour}}},
		{Key: "sender:uid:1:a@example.com", Limits: []Limit{{Messages, 10, time.Hour}}},
	}
	for range 50 {
		send(l, "uid:1", budgets, start, Amount{Messages: 1})
	}
	l.Raise("uid:1", "why", start.Add(time.Hour), start)
	if err := l.Suspend(Suspension{Key: "uid:1", Since: start}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Resume("uid:1"); err != nil {
		t.Fatal(err)
	}
	raised, _, _ := l.Raised("uid:1", start)
	if a := send(l, "uid:1", budgets, start, Amount{Messages: 1}); raised != 0 || a.Room || ladder.For(a, raised) != Defer {
		t.Errorf("raised %d, %+v: %v", raised, a, ladder.For(a, raised))
	}
}

func TestRaise(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.db")
	l := openAt(t, path)
	if n := l.Raise("uid:1", "first", start.Add(2*time.Hour), start); n != 1 {
		t.Errorf("raised by %d", n)
	}
	if n := l.Raise("uid:1", "second", start.Add(time.Hour), start); n != 2 {
		t.Errorf("raised by %d", n)
	}
	l.Raise("uid:2", "other", start.Add(time.Minute), start)
	closed(t, l)

	l = openAt(t, path)
	defer closed(t, l)
	for _, test := range []struct {
		identity string
		after    time.Duration
		want     int
	}{{"uid:1", 0, 2}, {"uid:1", 2*time.Hour - 1, 2}, {"uid:1", 2 * time.Hour, 0}, {"uid:2", 0, 1}, {"uid:2", time.Minute, 0}, {"uid:3", 0, 0}} {
		n, why, until := l.Raised(test.identity, start.Add(test.after))
		if n != test.want || test.want == 2 && (why != "second" || !until.Equal(start.Add(2*time.Hour))) {
			t.Errorf("%s after %v: %d, %q, %v", test.identity, test.after, n, why, until)
		}
	}
	for range 9 {
		l.Raise("uid:1", "again", start.Add(9*time.Hour), start.Add(3*time.Hour))
	}
	if n, _, _ := l.Raised("uid:1", start.Add(4*time.Hour)); n != mostRaises {
		t.Errorf("raised by %d", n)
	}
	if len(l.raises.all()) != 1 {
		t.Errorf("raises that ended are kept: %v", l.raises.all())
	}
	if !l.lower("uid:1") || l.lower("uid:1") || l.raises.now.Load() != nil {
		t.Error("lowering once must empty the register")
	}
}
