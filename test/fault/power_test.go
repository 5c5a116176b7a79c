// Wherever power is lost, and whatever of what was not synced is lost with it,
// every message with a 250 arrives after the next start: once, or marked in the
// audit as a possible duplicate.

package fault_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
)

// power is a proxy in this process whose spool is on a simulated disk.
type power struct {
	disk  *simdisk.Disk
	proxy *app.Proxy
	off   atomic.Bool
}

// never is no step of a disk.
const never = -1

// changing are the steps after which the disk is not as it was before.
var changing = []string{"mkdir", "rename", "remove", "syncdir", "write", "truncate", "sync", "chmod"}

// newPower is a disk whose power is lost after so many steps that change it.
func newPower(disk *simdisk.Disk, after int) *power {
	p := &power{disk: disk}
	changes := 0
	disk.Fail = func(s simdisk.Step) error {
		switch {
		case p.off.Load():
			return simdisk.ErrCrashed
		case after >= 0 && slices.Contains(changing, s.Op):
			p.off.Store(changes == after)
			changes++
		}
		if p.off.Load() {
			return simdisk.ErrCrashed
		}
		return nil
	}
	return p
}

func TestPowerLossAtEveryStep(t *testing.T) {
	for _, loss := range []struct {
		name string
		simdisk.Loss
	}{{"nothing survives that was not synced", simdisk.Power}, {"some of it survives, torn", simdisk.Torn}} {
		for _, s := range stories() {
			t.Run(loss.name+", "+s.name, func(t *testing.T) {
				t.Parallel()
				h := prepareHost(t, s.setup)
				disk := simdisk.New()
				for n := 0; ; n++ {
					if h.boot(t, disk, n) {
						s.tell(h)
					}
					over := h.alive()
					h.power.end()
					disk = disk.Restart(loss.Loss, uint64(n))
					h.heal()
					if !h.boot(t, disk, never) {
						t.Fatalf("not started after a loss of power at step %d", n)
					}
					h.settle(t)
					h.power.end()
					if t.Failed() {
						t.Fatalf("power was lost at step %d", n)
					}
					if over {
						t.Logf("%d steps that change the disk", n)
						return
					}
					disk = disk.Restart(simdisk.Kill, 0)
				}
			})
		}
	}
}

// boot starts the proxy on a disk; it may be off again before it serves.
func (h *host) boot(t *testing.T, disk *simdisk.Disk, after int) (serves bool) {
	t.Helper()
	cfg, problems := config.Load(h.config, config.Options{})
	if cfg == nil {
		t.Fatalf("configuration: %v", problems)
	}
	h.power = newPower(disk, after)
	var err error
	h.power.proxy, err = app.StartProxy(t.Context(), app.ProxyOptions{
		Config: cfg, Guard: h.config + ".no-guard", Log: zap.NewNop(), LogLevel: zap.NewAtomicLevel(), FS: disk,
	})
	if err != nil && !errors.Is(err, simdisk.ErrCrashed) {
		t.Fatalf("starting the proxy: %v", err)
	}
	return err == nil
}

// lost says that the power is off: the disk takes nothing any more.
func (p *power) lost() bool { return p.off.Load() }

// end ends the proxy, which has nothing to say about what is on the disk.
func (p *power) end() {
	if p.proxy == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_ = p.proxy.Stop(ctx)
	p.proxy = nil
}

// files are those in directories of the spool, as far as the disk can be read.
func (p *power) files(spool string, dirs []string) (names []string) {
	for _, dir := range dirs {
		for _, entry := range p.entries(filepath.Join(spool, dir)) {
			names = append(names, dir+"/"+entry.Name())
		}
	}
	return names
}

func (p *power) entries(dir string) []fs.DirEntry {
	d, err := p.disk.OpenFile(dir, os.O_RDONLY, 0)
	if err != nil {
		return nil
	}
	defer d.Close()
	entries, _ := d.ReadDir(-1)
	return entries
}
