// A spool of the format before is taken over as it is: what was held in it is
// delivered, what is damaged in it is put aside and neither sent nor deleted.

package fault_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSpoolOfFormat1(t *testing.T) {
	h := prepareHost(t, setup{})
	h.store(format1Letters(5)...)
	damaged := newStored(newLetter())
	damaged.version, damaged.progress = 1, nil
	text := damaged.encode(t)
	text[len(text)-5] ^= 1
	if err := os.WriteFile(filepath.Join(h.spool, "hold", damaged.marker), text, 0o600); err != nil {
		t.Fatal(err)
	}
	unfinished := newStored(newLetter())
	if err := os.WriteFile(filepath.Join(h.spool, "incoming", unfinished.marker), unfinished.encode(t)[:200], 0o600); err != nil {
		t.Fatal(err)
	}
	h.start(plan{})
	aside := "corrupt/" + damaged.marker
	eventually(t, "the rest has left", func() bool { return strings.Join(h.spooled(), " ") == aside })
	h.must(250, newLetter())
	h.restart()
	h.check(t)
	if kept, err := os.ReadFile(filepath.Join(h.spool, aside)); err != nil || !bytes.Equal(kept, text) {
		t.Errorf("the damaged message is not as it was: %v", err)
	}
	if !strings.Contains(h.log.String(), damaged.marker) {
		t.Error("the program log does not name the damaged message")
	}
	if _, err := os.Stat(filepath.Join(h.spool, "hold")); !os.IsNotExist(err) {
		t.Errorf("the directory of the format before is still there: %v", err)
	}
}

// TestKillWhileFormat1IsTakenOver: at each step.
func TestKillWhileFormat1IsTakenOver(t *testing.T) {
	t.Parallel()
	h := prepareHost(t, setup{})
	for n := 1; ; n++ {
		h.store(format1Letters(3)...)
		h.start(plan{Kill: n, Under: "/spool"})
		over := h.alive()
		if over {
			h.drain()
			over = h.alive()
		}
		h.restart()
		h.settle(t)
		h.kill()
		if t.Failed() {
			t.Fatalf("killed at point %d", n)
		}
		if over {
			t.Logf("%d points", n-1)
			return
		}
	}
}

// format1Letters are held messages, as the version before has left them.
func format1Letters(n int) (all []stored) {
	for range n {
		s := newStored(newLetter("one@example.net", "two@example.net"))
		s.version, s.name, s.taken, s.progress = 1, "hold/"+s.marker, time.Now().Add(-time.Hour), nil
		all = append(all, s)
	}
	return all
}

// TestSpoolOfALaterFormat: what this version cannot know it leaves alone.
func TestSpoolOfALaterFormat(t *testing.T) {
	t.Parallel()
	h := prepareHost(t, setup{})
	later := newStored(newLetter())
	later.version = 9
	h.store(later)
	h.ledger = newLedger() // nobody expects it to arrive
	h.start(plan{})
	h.must(250, newLetter())
	eventually(t, "it is put aside", func() bool { return strings.Join(h.spooled(), " ") == "corrupt/"+later.marker })
	kept, err := os.ReadFile(filepath.Join(h.spool, "corrupt", later.marker))
	if err != nil || !bytes.Equal(kept, later.encode(t)) {
		t.Errorf("it is not as it was: %v", err)
	}
	h.check(t)
}
