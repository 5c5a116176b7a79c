package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

// limitsDamaged is what the program log says of a store that was damaged.
const limitsDamaged = "the limits store "

// quick is a policy without the default ladder's slow rung.
const quick = "[policy]\nladder = [\"defer at 100%\"]\n"

// limitState is how a limit stands, as `smtpwall test --json` tells.
type limitState struct {
	Key     string `json:"key"`
	Limit   string `json:"limit"`
	Used    int64  `json:"used"`
	Max     int64  `json:"max"`
	Refused int64  `json:"refused"`
}

// used is how much of a limit of an identity is used.
func (b *bed) used(t testing.TB, identity, key, limit string) int64 {
	t.Helper()
	stdout, stderr, _ := b.output("test", "--as", identity, "--from", sender, "--to", recipient, "--json")
	var told struct {
		Limits  []limitState `json:"limits"`
		Unknown string       `json:"limits_unknown"`
	}
	if err := json.Unmarshal([]byte(stdout), &told); err != nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	for _, state := range told.Limits {
		if state.Key == key && state.Limit == limit {
			return state.Used
		}
	}
	t.Fatalf("there is no limit of %s for %s: %s", limit, key, stdout)
	return 0
}

// TestLimitBudgets: budgets above identities hold for all of them together, one
// that has no room takes nothing from another, and many sessions at once get no
// more than one.
func TestLimitBudgets(t *testing.T) {
	t.Parallel()
	s := setup{config: quick + `limits = ["5 messages/hour"]
[policy.budgets]
host = ["6 messages/hour"]
sender = ["4 recipients/hour"]
unit = ["1 messages/hour"]
`}
	b := newBed(t, s)
	const first, second, third = 7301, 7302, 7303
	b.mustPost(t, first, 4)
	// The sender's budget is full, and the refusal takes nothing of the others.
	for range 3 {
		_, got := b.postAs(t, first)
		got.opening(t, "4 recipients/hour", "")
	}
	k := b.talkAs(t, first)
	if got := k.send(newLetter(), "other@shop.example", recipient); got.code != 250 {
		t.Fatalf("as another sender the client hears %+v", got)
	}
	k.say("MAIL FROM:<%s>", "third@shop.example").opening(t, "5 messages/hour", "")
	if used := b.used(t, fmt.Sprint("uid:", second), "host", "6 messages/hour"); used != 5 {
		t.Errorf("of the host's budget %d are used, want 5", used)
	}
	b.relay.On(testkit.StepRcpt, relayRefusal("nobody"))
	if _, got := b.postAs(t, second, "nobody@example.net"); got.code != 550 {
		t.Errorf("of a recipient that the relay refuses the client hears %+v", got)
	}
	if used := b.used(t, fmt.Sprint("uid:", second), "uid:7302", "5 messages/hour"); used != 0 {
		t.Errorf("after a refusal %d messages of the identity are used, want none", used)
	}
	// One place is left, for one of many.
	var crowd sync.WaitGroup
	replies := make([]reply, 8)
	for i := range replies {
		k := b.talkAs(t, second)
		crowd.Go(func() { replies[i] = k.send(newLetter(), sender, recipient) }) // ends with the reply
	}
	crowd.Wait()
	taken := 0
	for _, got := range replies {
		if got.code == 250 {
			taken++
		} else {
			got.opening(t, "6 messages/hour", "")
		}
	}
	if taken != 1 {
		t.Errorf("of the last place of the host's budget %d messages were sent", taken)
	}
	if used := b.used(t, fmt.Sprint("uid:", third), "host", "6 messages/hour"); used != 6 {
		t.Errorf("of the host's budget %d are used, want 6", used)
	}
	b.checkUnitBudget(t, s)
}

// checkUnitBudget: two users in one unit share its budget.
func (b *bed) checkUnitBudget(t *testing.T, s setup) {
	s.config = strings.Replace(s.config, `host = ["6 `, `host = ["60 `, 1)
	b.reload(s)
	unit := newUnit(t)
	send := func(uid uint32) (string, error) {
		said, err := inCGroup(b.programAs(uid, "curl", b.curl(newLetter(), "smtp://localhost:2525")...), unit).CombinedOutput()
		return string(said), err
	}
	if said, err := send(7304); err != nil {
		t.Fatalf("curl: %v\n%s", err, said)
	}
	if said, err := send(7305); err == nil || !strings.Contains(said, "< 450 4.7.1 limit of 1 messages/hour reached") {
		t.Errorf("as another user of the unit curl says %v:\n%s", err, said)
	}
	b.mustPost(t, 7305, 1)
}

// TestLimitsSurvive: counts are there after the proxy was killed, but for the last
// second; after it ended in good order, all of them.
func TestLimitsSurvive(t *testing.T) {
	t.Parallel()
	s := setup{config: quick + "limits = [\"8 messages/hour\", \"5 new-recipients/day\"]\n", errors: []string{proxyEnded, limitsDamaged}}
	b := newBed(t, s)
	const uid, other = 7311, 7312
	b.mustPost(t, uid, 3)
	b.awaitSaved(t)
	b.mustPost(t, uid, 2)
	b.killProxy(t)
	used := b.used(t, fmt.Sprint("uid:", uid), fmt.Sprint("uid:", uid), "8 messages/hour")
	if used < 3 || used > 5 {
		t.Errorf("after a kill %d are used, of 5 that were sent and 3 that were saved", used)
	}
	b.mustPost(t, uid, int(8-used))
	_, got := b.postAs(t, uid)
	got.opening(t, "8 messages/hour", "")
	for _, to := range []string{"a@example.net", "b@example.net"} {
		if _, got := b.postAs(t, other, to); got.code != 250 {
			t.Fatalf("the client hears %+v", got)
		}
	}
	b.orders(t, 0, "is suspended until it is resumed", "suspend", "uid:7313", "--reason", "a test")
	if err := b.run.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	b.start(s)
	_, got = b.postAs(t, uid)
	got.opening(t, "8 messages/hour", "")
	if used := b.used(t, fmt.Sprint("uid:", other), fmt.Sprint("uid:", other), "5 new-recipients/day"); used != 2 {
		t.Errorf("after a restart %d new recipients are used, want 2", used)
	}
	if _, got := b.postAs(t, other, "A@example.net"); got.code != 250 {
		t.Fatalf("the client hears %+v", got)
	}
	if used := b.used(t, fmt.Sprint("uid:", other), fmt.Sprint("uid:", other), "5 new-recipients/day"); used != 2 {
		t.Errorf("after one who was known %d new recipients are used, want 2", used)
	}
	if _, got := b.postAs(t, 7313); got.code != 550 || !strings.Contains(got.text, "5.7.1 identity suspended") {
		t.Errorf("who was suspended before the restart hears %+v", got)
	}
	b.checkDamaged(t, s)
}

// awaitSaved waits until the store has been written after now, so that what was
// counted before is in it. Somebody whom no test looks at is counted for that.
func (b *bed) awaitSaved(t testing.TB) {
	t.Helper()
	path := b.limitsFile(t)
	for range 2 { // the first one may have been under way
		before := readFile(t, path)
		if _, got := b.postAs(t, 7399); got.code != 250 {
			t.Fatalf("the client hears %+v", got)
		}
		await(t, "a change of the limits' store", func() bool { return readFile(t, path) != before })
	}
}

// limitsFile is where the counts are.
func (b *bed) limitsFile(t testing.TB) string {
	t.Helper()
	for _, form := range []string{"limits.db", "limits/limits.db"} {
		if path := b.path("state", form); fileExists(path) {
			return path
		}
	}
	t.Fatal("there is no limits.db")
	return ""
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// checkDamaged: a damaged store is set aside and told of, and limits begin as if
// they were used up, also for who was not seen before.
func (b *bed) checkDamaged(t *testing.T, s setup) {
	if err := b.run.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	path := b.limitsFile(t)
	text := []byte(readFile(t, path))
	for i := range text {
		text[i] ^= 0x55
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	b.start(s)
	for _, uid := range []uint32{7311, 7319} {
		_, got := b.postAs(t, uid)
		got.opening(t, "8 messages/hour", "")
	}
	aside, err := filepath.Glob(path + ".damaged-*")
	if err != nil || len(aside) != 1 || readFile(t, aside[0]) != string(text) {
		t.Errorf("set aside are %v", aside)
	}
	stdout, stderr, status := b.output("status")
	if status != 3 || !strings.Contains(stdout+stderr, "limits store was damaged") || len(aside) == 1 && !strings.Contains(stdout+stderr, filepath.Base(aside[0])) {
		t.Errorf("status ended with %d: %s%s", status, stdout, stderr)
	}
}

// TestLimitReload: other limits are in force at once and count what was sent
// before.
func TestLimitReload(t *testing.T) {
	t.Parallel()
	with := func(limits string) setup { return setup{config: quick + "limits = [" + limits + "]\n"} }
	b := newBed(t, with(`"10 messages/hour"`))
	b.mustPost(t, siteUID, 4)
	idle := b.talk(t)
	b.reload(with(`"4 messages/hour"`))
	_, got := b.postAs(t, siteUID)
	got.opening(t, "4 messages/hour", "")
	idle.send(newLetter(), sender, recipient).opening(t, "4 messages/hour", "")
	idle.leave()
	b.reload(with(`"5 messages/hour", "50 recipients/day"`))
	b.mustPost(t, siteUID, 1)
	_, got = b.postAs(t, siteUID)
	got.opening(t, "5 messages/hour", "")
	b.reload(with(`"5 messages/2h"`)) // a longer window knows what the shorter one did
	_, got = b.postAs(t, siteUID)
	got.opening(t, "5 messages/2h", "")
	b.reload(with(""))
	b.mustPost(t, siteUID, 1)
	b.reload(with(`"5 messages/hour"`))
	_, got = b.postAs(t, siteUID)
	got.opening(t, "5 messages/hour", "")
}
