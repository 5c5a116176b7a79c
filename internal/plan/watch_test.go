package plan

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

func TestWatch(t *testing.T) {
	at := func(after time.Duration) time.Time { return noon.Add(after) }
	sign := func(after time.Duration) *audit.Event { return attempt(after, 33, "", "192.0.2.1:25", 1) }
	for _, test := range []struct {
		name   string
		change func(*Options)
		events []*audit.Event
		want   Watch
		says   []string // and nothing else
	}{
		{"nothing", nil, nil, Watch{Running: true}, []string{"nothing was watched"}},
		{"one life, running", nil, []*audit.Event{mode(0, started), sign(day)},
			Watch{From: noon, To: at(40 * day), Seconds: 40 * 86400, Running: true}, nil},
		{"not running any more", func(o *Options) { o.Running = false }, []*audit.Event{mode(0, started), sign(day), mode(33*day, ended)},
			Watch{From: noon, To: at(33 * day), Seconds: 33 * 86400}, []string{"no guard runs now"}},
		{"killed", func(o *Options) { o.Running = false }, []*audit.Event{mode(0, started), sign(2 * day)},
			Watch{From: noon, To: at(2 * day), Seconds: 2 * 86400}, []string{"less than 8 days", "no guard runs now"}},
		{"a gap", nil, []*audit.Event{mode(0, started), mode(day, ended), mode(2*day, started)},
			Watch{From: noon, To: at(40 * day), Seconds: 39 * 86400, Running: true, Gaps: []Gap{{at(day), at(2 * day), false}}},
			[]string{"did not run at one time between"}},
		{"a crash", nil, []*audit.Event{mode(0, started), sign(day), mode(3*day, started), mode(4*day, "somebody said so"), mode(5*day, ended), mode(6*day, started)},
			Watch{From: noon, To: at(40 * day), Seconds: 37 * 86400, Running: true,
				Gaps: []Gap{{at(day), at(3 * day), true}, {at(5 * day), at(6 * day), false}}},
			[]string{"did not run at 2 times between"}},
		{"restarts", nil, []*audit.Event{mode(0, started), mode(day, ended), mode(day+2*time.Second, started), sign(2 * day), mode(2*day+time.Second, started)},
			Watch{From: noon, To: at(40 * day), Seconds: 40 * 86400, Running: true}, nil},
		{"the log begins within", nil, []*audit.Event{sign(0), mode(day, ended), mode(day, started)},
			Watch{From: noon, To: at(40 * day), Seconds: 40 * 86400, Running: true, Cut: true}, []string{"begin within the watch"}},
		{"asked for less", func(o *Options) { o.Since = noon.Add(-9 * day) }, []*audit.Event{sign(0)},
			Watch{From: at(-9 * day), To: at(40 * day), Seconds: 49 * 86400, Running: true}, nil},
		{"asked for more than there is", func(o *Options) { o.Since = noon.Add(-9 * day) }, []*audit.Event{mode(0, started)},
			Watch{From: noon, To: at(40 * day), Seconds: 40 * 86400, Running: true}, nil},
		{"half a day", func(o *Options) { o.Now = noon.Add(12 * time.Hour) }, []*audit.Event{mode(0, started)},
			Watch{From: noon, To: at(12 * time.Hour), Seconds: 43200, Running: true}, []string{"less than a day: daily, weekly and monthly"}},
		{"ten days", func(o *Options) { o.Now = noon.Add(10 * day) }, []*audit.Event{mode(0, started)},
			Watch{From: noon, To: at(10 * day), Seconds: 864000, Running: true}, []string{"less than 32 days: monthly jobs"}},
		{"a clock that was set back", nil, []*audit.Event{mode(0, started), mode(-day, ended), mode(-day, started), mode(day, ended), mode(day, started)},
			Watch{From: noon, To: at(40 * day), Seconds: 41 * 86400, Running: true}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := options()
			if test.change != nil {
				test.change(&o)
			}
			p := planOf(o, test.events...)
			if test.want.Gaps == nil {
				test.want.Gaps = []Gap{}
			}
			if !reflect.DeepEqual(p.Watch, test.want) {
				t.Errorf("%+v\nwant\n%+v", p.Watch, test.want)
			}
			if len(p.Missing) != len(test.says) {
				t.Errorf("%q, want %q", p.Missing, test.says)
			}
			for _, want := range test.says {
				if !strings.Contains(strings.Join(p.Missing, "\n"), want) {
					t.Errorf("no %q in %q", want, p.Missing)
				}
			}
		})
	}
}
