package main

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/proxy/limit"
)

func (p *fakeProxy) Limits(context.Context, string, string) ([]admin.LimitState, error) {
	return nil, errors.New("nobody asks for limits here")
}

func (p *fakeProxy) Suspensions(context.Context) ([]limit.Suspension, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.off)), nil
}

func (p *fakeProxy) Suspend(_ context.Context, s limit.Suspension) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off == nil {
		p.off = map[string]limit.Suspension{}
	}
	p.off[s.Key] = s
	return nil
}

func (p *fakeProxy) Resume(_ context.Context, key string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.off[key]; !ok {
		return admin.ErrNotSuspended
	}
	delete(p.off, key)
	return nil
}

func TestSuspendResume(t *testing.T) {
	p := &fakeProxy{}
	config := p.serve(t)
	status, out, err := run(t, "", "suspend", "--config", config)
	if status != exitDone || out != "" || err != "nobody is suspended\n" {
		t.Errorf("nobody: %d, %q, %q", status, out, err)
	}
	status, out, err = run(t, "", "suspend", "root", "--reason", "phished\x1b", "--for", "2h", "--config", config)
	if status != exitUsage && status != exitFailed || !strings.Contains(err, "the reason must be one line") {
		t.Errorf("a reason with a control character: %d, %q, %q", status, out, err)
	}
	status, out, err = run(t, "", "suspend", "root", "--reason", "phished", "--for", "2h", "--config", config)
	if status != exitDone || out != "" || !strings.HasPrefix(err, "uid:0 (root) is suspended until ") || !strings.HasSuffix(err, "\nhint: smtpwall resume root ends it\n") {
		t.Errorf("%d, %q, %q", status, out, err)
	}
	if s := p.off["uid:0"]; s.Reason != "phished" || s.By != "uid 0" || time.Until(s.Until) < 119*time.Minute || time.Until(s.Until) > 2*time.Hour {
		t.Errorf("%+v", s)
	}
	status, out, err = run(t, "", "suspend", "unit:php8.2-fpm.service", "--json", "--config", config)
	if status != exitDone || !strings.Contains(out, `"unit:php8.2-fpm.service"`) || !strings.Contains(err, " is suspended until it is resumed: ") {
		t.Errorf("%d, %q, %q", status, out, err)
	}
	status, out, err = run(t, "", "suspend", "--config", config)
	lines := strings.Split(out, "\n")
	if status != exitDone || err != "" || len(lines) != 4 || !strings.HasPrefix(lines[0], "IDENTITY ") ||
		!strings.HasPrefix(lines[1], "uid:0 (root) ") || !strings.HasSuffix(lines[1], "  uid 0  phished") ||
		!strings.HasPrefix(lines[2], "unit:php8.2-fpm.service ") || !strings.Contains(lines[2], "  resumed  ") {
		t.Errorf("%d, %q, %q", status, out, err)
	}
	if status, out, _ = run(t, "", "suspend", "--json", "--config", config); status != exitDone || strings.Count(out, "\n") != 2 {
		t.Errorf("%d, %q", status, out)
	}
	if status, _, err := run(t, "", "suspend", "unknown", "--config", config); status != exitDone || !strings.Contains(err, "unknown is suspended until it is resumed: ") {
		t.Errorf("%d, %q", status, err)
	}
	for _, word := range []string{"user:root", "unit:php8.2-fpm.service", "unknown"} {
		if status, _, err := run(t, "", "resume", word, "--config", config); status != exitDone || !strings.Contains(err, " may send again; ") {
			t.Errorf("resume %s: %d, %q", word, status, err)
		}
	}
	status, _, err = run(t, "", "resume", "0", "--config", config)
	if status != exitFailed || err != "smtpwall: error: uid:0 (root) is not suspended\nhint: smtpwall suspend lists what is\n" {
		t.Errorf("%d, %q", status, err)
	}
}

func TestSuspendUsage(t *testing.T) {
	config := file(t, "[listen]\nadmin = \"DIR/a\"\n")
	noAdmin := file(t, "[listen]\nadmin = \"\"\n")
	for _, test := range []struct {
		args   []string
		status int
		err    string
	}{
		{[]string{"suspend", "--reason", "x"}, exitUsage, "suspend needs an identity\nhint: a user's name, uid:N"},
		{[]string{"suspend", "a", "b"}, exitUsage, "suspend needs one identity"},
		{[]string{"resume"}, exitUsage, "resume needs one identity\nhint: a user's name, uid:N"},
		{[]string{"suspend", "no-such-user-here"}, exitUsage, `this host has no user "no-such-user-here"`},
		{[]string{"suspend", "unit:php-fpm"}, exitUsage, "hint: write it as systemctl does: unit:php-fpm.service"},
		{[]string{"suspend", "uid:x"}, exitUsage, `"uid:x": a uid is a number`},
		{[]string{"suspend", "host:x"}, exitUsage, `"host:x" is no key`},
		{[]string{"suspend", "root", "--for", "2h", "--until", "18:00"}, exitUsage, "--for and --until both say when it ends"},
		{[]string{"suspend", "root", "--until", "soon"}, exitUsage, `--until: "soon" is no time`},
		{[]string{"suspend", "root", "--until", "2020-01-31"}, exitUsage, " is over"},
		{[]string{"suspend", "root"}, exitFailed, "no proxy is running: nobody answers at " + filepath.Dir(config) + "/a\nhint: systemctl start smtpwall.service"},
		{[]string{"suspend"}, exitFailed, "no proxy is running"},
		{[]string{"resume", "root"}, exitFailed, "no proxy is running"},
	} {
		status, out, err := run(t, "", append(test.args, "--config", config)...)
		if status != test.status || out != "" || !strings.Contains(err, test.err) {
			t.Errorf("%q: %d, %q, %q; want %d, %q", test.args, status, out, err, test.status, test.err)
		}
	}
	if status, _, err := run(t, "", "suspend", "--config", noAdmin); status != exitFailed || !strings.Contains(err, "listen.admin is empty\nhint: give listen.admin a path") {
		t.Errorf("%d, %q", status, err)
	}
}

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("here", 2*3600)
	now := time.Date(2026, 12, 31, 12, 0, 0, 0, zone)
	for text, want := range map[string]string{
		"18:00":                "2026-12-31T18:00:00+02:00",
		"12:00":                "2027-01-01T12:00:00+02:00",
		"07:30":                "2027-01-01T07:30:00+02:00",
		"2027-01-31":           "2027-01-31T00:00:00+02:00",
		"2027-01-31 18:00":     "2027-01-31T18:00:00+02:00",
		"2027-01-31 18:00:09":  "2027-01-31T18:00:09+02:00",
		"2027-01-31T18:00":     "2027-01-31T18:00:00+02:00",
		"2027-01-31T18:00:00Z": "2027-01-31T18:00:00Z",
		"24:00":                "", "2027-13-01": "", "tomorrow": "", "": "",
	} {
		got, ok := parseTime(text, now)
		if ok != (want != "") || ok && got.Format(time.RFC3339) != want {
			t.Errorf("%q: %v, %v; want %q", text, got, ok, want)
		}
	}
}

func TestSubordinateUIDsCountAsTheirUser(t *testing.T) {
	ownerOf := func(uid uint32) (uint32, bool) { return 0, uid == 100000 }
	var got *userError
	if err := countsItself("uid:100000", ownerOf); !errors.As(err, &got) {
		t.Fatalf("got %v", err)
	}
	if want := "uid:100000 is a subordinate uid of uid:0 (root), and counts as that user"; got.status != exitUsage || got.message != want {
		t.Errorf("%d: %s", got.status, got.message)
	}
	if got.hint != "smtpwall suspend uid:0" {
		t.Errorf("hint %s", got.hint)
	}
	for _, key := range []string{"uid:0", "uid:99999", "uid:x", "account:100000", "unknown", "unit:uid:100000"} {
		if err := countsItself(key, ownerOf); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}
