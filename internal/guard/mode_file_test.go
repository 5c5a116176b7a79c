package guard

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/rules"
)

func TestADamagedModeFile(t *testing.T) {
	good := `{"mode":"enforce","configured":"observe","since":"2026-01-01T00:00:00Z","by":"root"`
	for name, content := range map[string]string{
		"empty":                "",
		"zeros":                strings.Repeat("\x00", 300),
		"cut":                  good,
		"of another kind":      `[]`,
		"an unknown mode":      strings.Replace(good, "enforce", "off", 1) + "}",
		"no time":              `{"mode":"enforce","configured":"observe"}`,
		"an unknown key":       good + `,"trail":{}}`,
		"a trial without end":  good + `,"trial":{"whole_ns":600000000000,"boot":"first","end_ns":600000000000}}`,
		"an end without trial": good + `,"until":"2026-01-01T00:10:00Z"}`,
		"a trial of years":     good + `,"until":"2026-01-01T00:10:00Z","trial":{"whole_ns":600000000000000000,"boot":"first","end_ns":1}}`,
		"an end that overflows": good + `,"until":"2026-01-01T00:10:00Z",` +
			`"trial":{"whole_ns":600000000000,"boot":"first","end_ns":-9223372036854775808}}`,
		"a trial to observe": strings.Replace(good, "enforce", "observe", 1) + `,"until":"2026-01-01T00:10:00Z",` +
			`"trial":{"whole_ns":600000000000,"boot":"first","end_ns":1}}`,
		"twice":    good + "}" + good + "}",
		"too long": good + strings.Repeat(" ", maxState) + "}",
	} {
		for _, configured := range []rules.Mode{rules.Observe, rules.Enforce} {
			t.Run(name+", configured "+configured.String(), func(t *testing.T) {
				onModeBed(t, func(b *modeBed) {
					b.end()
					if err := os.WriteFile(filepath.Join(b.dir, modeFile), []byte(content), 0o600); err != nil {
						t.Fatal(err)
					}
					b.configured = configured
					for range 2 { // it stays to be looked at
						b.start()
						b.in(rules.Enforce, false)
						b.condition("smtpwall enforce or smtpwall observe")
						b.pass(time.Minute)
						b.in(rules.Enforce, false)
						b.end()
					}
					b.start()
					if err := b.guard.Observe(t.Context(), "root"); err != nil { // an order is known again
						t.Fatal(err)
					}
					b.condition("")
					b.restart()
					b.in(rules.Observe, false)
					b.condition("")
				})
			})
		}
	}
}

// What is there tells that something was ordered; what is not there does not.
func TestNoModeFile(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"no directory":         os.RemoveAll,
		"a directory for all":  func(dir string) error { return os.Chmod(dir, 0o777) },
		"a file for directory": func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) },
		"a link for directory": func(dir string) error {
			return errors.Join(os.Rename(dir, dir+".1"), os.Symlink(dir+".1", dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			onModeBed(t, func(b *modeBed) {
				b.end()
				if err := spoil(b.dir); err != nil {
					t.Fatal(err)
				}
				b.start()
				b.in(rules.Observe, false)
			})
		})
	}
}

// onSpoiledModeBed is a bed on which an order is over and its file was tampered
// with. Its guard does not run.
func onSpoiledModeBed(t *testing.T, configured rules.Mode, order func(b *modeBed), spoil func(dir, file string) error, f func(b *modeBed)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test gives files away and needs root")
	}
	onModeBed(t, func(b *modeBed) {
		b.end()
		b.configured = configured
		b.start()
		order(b)
		b.end()
		if err := spoil(b.dir, filepath.Join(b.dir, modeFile)); err != nil {
			t.Fatal(err)
		}
		f(b)
	})
}

type spoil = func(dir, file string) error

// wideOpen are root's files that others may write, given files of others, and
// broken ones what nobody can read.
func wideOpen() map[string]spoil {
	return map[string]spoil{
		"a file for all":        func(_, file string) error { return os.Chmod(file, 0o666) },
		"a directory for all":   func(dir, _ string) error { return os.Chmod(dir, 0o777) },
		"a directory for group": func(dir, _ string) error { return os.Chmod(dir, 0o770) },
		"both for all":          func(dir, file string) error { return errors.Join(os.Chmod(dir, 0o777), os.Chmod(file, 0o666)) },
	}
}

func given() map[string]spoil {
	return map[string]spoil{
		"a file of another":      func(_, file string) error { return os.Chown(file, 1234, -1) },
		"a directory of another": func(dir, _ string) error { return os.Chown(dir, 1234, -1) },
		"both of another": func(dir, file string) error {
			return errors.Join(os.Chown(dir, 1234, -1), os.Chown(file, 1234, -1), os.Chmod(file, 0o666))
		},
	}
}

func broken() map[string]spoil {
	return map[string]spoil{
		"a link": func(_, file string) error {
			return errors.Join(os.Rename(file, file+".1"), os.Symlink(file+".1", file))
		},
		"a pipe": func(_, file string) error {
			return errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600))
		},
		"a link for directory": func(dir, _ string) error {
			return errors.Join(os.Rename(dir, dir+".1"), os.Symlink(dir+".1", dir))
		},
	}
}

// ownAgain fails unless nobody else can change what is on the bed.
func (b *modeBed) ownAgain() {
	b.t.Helper()
	if _, trust, err := b.guard.readMode(); trust != trustAll || err != nil {
		b.t.Errorf("trust %d, %v", trust, err)
	}
}

// An order to enforce is believed whoever could have written it, and is root's
// alone again afterwards.
func TestAnOrderToEnforceThatOthersCouldChange(t *testing.T) {
	all := wideOpen()
	maps.Copy(all, given())
	for name, spoil := range all {
		t.Run(name, func(t *testing.T) {
			onSpoiledModeBed(t, rules.Observe, func(b *modeBed) { b.enforce(0) }, spoil, func(b *modeBed) {
				b.start()
				b.in(rules.Enforce, false)
				b.condition("could have been changed by others")
				b.ownAgain()
				b.restart()
				b.in(rules.Enforce, false)
				b.condition("")
				if s := b.guard.Mode(); s.By != "root (alice)" {
					t.Errorf("the order is %+v", s)
				}
			})
		})
	}
}

// A trial ends as it was meant to if root wrote it, and is none if another user
// did, who could have made its end.
func TestATrialThatOthersCouldChange(t *testing.T) {
	onTrial := func(b *modeBed) { b.enforce(10 * time.Minute) }
	for name, spoil := range wideOpen() {
		t.Run(name, func(t *testing.T) {
			onSpoiledModeBed(t, rules.Observe, onTrial, spoil, func(b *modeBed) {
				b.pass(4 * time.Minute)
				b.start()
				b.in(rules.Enforce, true)
				b.condition("could have been changed by others")
				b.ownAgain()
				b.pass(6*time.Minute - time.Second)
				b.in(rules.Enforce, true)
				b.pass(2 * time.Second)
				b.in(rules.Observe, false)
			})
			onSpoiledModeBed(t, rules.Observe, onTrial, spoil, func(b *modeBed) {
				b.pass(11 * time.Minute)
				b.start()
				b.in(rules.Observe, false)
			})
		})
	}
	for name, spoil := range given() {
		t.Run(name, func(t *testing.T) {
			onSpoiledModeBed(t, rules.Observe, onTrial, spoil, func(b *modeBed) {
				b.pass(11 * time.Minute)
				b.start()
				b.in(rules.Enforce, false)
				b.condition("could have been changed by others")
				b.pass(time.Hour)
				b.restart()
				b.in(rules.Enforce, false)
			})
		})
	}
}

// Nobody's word takes the block down but root's.
func TestAnOrderToObserveThatOthersCouldChange(t *testing.T) {
	all := wideOpen()
	maps.Copy(all, given())
	maps.Copy(all, broken())
	observe := func(b *modeBed) {
		if err := b.guard.Observe(b.t.Context(), "root (alice)"); err != nil {
			b.t.Fatal(err)
		}
	}
	for name, spoil := range all {
		t.Run(name, func(t *testing.T) {
			onSpoiledModeBed(t, rules.Enforce, observe, spoil, func(b *modeBed) {
				for range 2 {
					b.start()
					b.in(rules.Enforce, false)
					b.condition("smtpwall enforce or smtpwall observe")
					b.end()
				}
				b.configured = rules.Observe // nor does another configuration make it true
				b.start()
				b.in(rules.Enforce, false)
			})
		})
	}
	for name, spoil := range broken() {
		t.Run(name+", enforce", func(t *testing.T) {
			onSpoiledModeBed(t, rules.Observe, func(b *modeBed) { b.enforce(0) }, spoil, func(b *modeBed) {
				b.start()
				b.in(rules.Enforce, false)
				b.condition("smtpwall enforce or smtpwall observe")
			})
		})
	}
}

// After an order the file and its directory are as they should be.
func TestAnOrderMakesTheStateRootsAgain(t *testing.T) {
	all := wideOpen()
	maps.Copy(all, given())
	for name, spoil := range all {
		t.Run(name, func(t *testing.T) {
			onSpoiledModeBed(t, rules.Enforce, func(b *modeBed) {
				if err := b.guard.Observe(t.Context(), "root"); err != nil {
					t.Fatal(err)
				}
			}, spoil, func(b *modeBed) {
				b.start()
				if err := b.guard.Observe(t.Context(), "root"); err != nil {
					t.Fatal(err)
				}
				b.condition("")
				b.ownAgain()
				b.restart()
				b.in(rules.Observe, false)
			})
		})
	}
}

// Whatever a byte that went wrong makes of the file, a trial is never longer
// than it was meant to be, nothing panics, and what cannot be read enforces.
func TestEachByteOfTheModeFileDamaged(t *testing.T) {
	clk := &fakeClock{began: time.Now().Add(-time.Hour), id: "first"}
	g := newFakeKernel().newGuard(t, Options{Rules: rules.Options{ProxyUID: proxyUID}, State: t.TempDir()})
	g.clock = clk.clock()
	whole := 10 * time.Minute
	for _, trial := range []*trial{nil, g.newTrial(whole, whole)} {
		if err := g.keepMode(mode{running: rules.Enforce, since: time.Now(), by: "root", trial: trial}); err != nil {
			t.Fatal(err)
		}
		good, err := g.readState(modeFile)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(g.stateDir(), modeFile)
		for i := range good {
			for _, flip := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 0xff} {
				bad := append([]byte(nil), good...)
				bad[i] ^= flip
				checkDamaged(t, g, path, bad, trial != nil)
			}
			checkDamaged(t, g, path, good[:i], trial != nil)
		}
	}
}

func checkDamaged(t *testing.T, g *Guard, path string, content []byte, trial bool) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	m, amiss := g.orderedOver(rules.Observe)
	switch {
	case amiss != nil && (m.running != rules.Enforce || m.trial != nil || !errors.Is(amiss, errNotBelieved)):
		t.Errorf("%s: damaged, and %+v: %v", content, m, amiss)
	case m.running != rules.Enforce && (!trial || m.by != byTrial):
		t.Errorf("%s: no block: %+v", content, m)
	case m.trial == nil:
		return
	}
	if left := m.trial.end - g.clock.sinceBoot(); m.trial.whole > MaxTrial || left > m.trial.whole {
		t.Errorf("%s: %s are left", content, left)
	}
}
