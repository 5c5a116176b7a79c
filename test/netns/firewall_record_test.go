package netns_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// counters opens the reader of attempts in the host.
func (f *firewall) counters() *nft.AttemptCounters {
	f.t.Helper()
	var c *nft.AttemptCounters
	err := f.Host.Do(func() (err error) {
		c, err = nft.OpenAttemptCounters(f.t.Context())
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

// TestFirewallRecordsTheDeepestCGroup, down to level 5 below the root.
func TestFirewallRecordsTheDeepestCGroup(t *testing.T) {
	observe := fwOptions()
	observe.Mode = rules.Observe
	for _, o := range []rules.Options{fwOptions(), observe} {
		t.Run(o.Mode.String(), func(t *testing.T) {
			f := newFirewall(t, nft.Options{})
			f.apply(o)
			f.serveAll()
			counters := f.counters()
			for depth, dir := range cgroupTree(t, 7) {
				want := inode(t, dir)
				if depth > 5 {
					want = inode(t, ancestor(dir, depth-5))
				}
				for _, v6 := range []bool{false, true} {
					to := netip.AddrPortFrom(f.Remote.Addr(v6), 25)
					f.dialIn(dir, to)
					got, err := counters.Read(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					one := nft.Count{UID: fwOrdinary, CGroup: want, Destination: to, Packets: 1}
					if len(got.Counts) != 1 || got.Counts[0] != one || got.Total() != 1 {
						t.Errorf("cgroup %d deep: counted %+v, want %+v alone", depth, got, one)
					}
				}
			}
		})
	}
}

// cgroupTree makes cgroups one below the other. The first is the root itself.
func cgroupTree(t *testing.T, depth int) []string {
	t.Helper()
	dirs := []string{cgroupRoot(t)}
	for i := 1; i < depth; i++ {
		dir := filepath.Join(dirs[i-1], fmt.Sprintf("smtpwall-test-%d-%d", os.Getpid(), i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { removeCGroup(t, dir) })
		dirs = append(dirs, dir)
	}
	return dirs
}

func cgroupRoot(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	t.Fatal("no cgroup2 hierarchy is mounted")
	return ""
}

// removeCGroup waits for the last process to be gone from it.
func removeCGroup(t *testing.T, dir string) {
	var err error
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err = os.Remove(dir); !errors.Is(err, syscall.EBUSY) {
			break
		}
	}
	if err != nil {
		t.Error(err)
	}
}

func ancestor(dir string, up int) string {
	return filepath.Clean(filepath.Join(dir, strings.Repeat("../", up)))
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// dialIn connects once from a process in a cgroup, whatever comes of it.
func (f *firewall) dialIn(cgroup string, to netip.AddrPort) {
	f.t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		f.t.Fatal(err)
	}
	defer dir.Close()
	self, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := f.Host.Command(f.t.Context(), self)
	cmd.Env = append(os.Environ(), childRole+"="+to.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Fatalf("%v: %s", err, out)
	}
}

// firewallDial is what the child of dialIn does, as an ordinary user (who might
// not be allowed to execute this test program).
func firewallDial(to string) error {
	runtime.LockOSThread()
	if _, err := unix.SetfsuidRetUid(fwOrdinary); err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", to, 2*time.Second)
	if err == nil {
		return conn.Close()
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	return err
}

// TestFirewallListsWhatItRecorded: full sets must not upset the nft command.
func TestFirewallListsWhatItRecorded(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.apply(fwOptions())
	for _, ns := range []*lab.Namespace{f.Host, f.Container} {
		f.checkCells(ns, fwOrdinary, []cell{{toRemote, 25, reset}})
	}
	list := f.nft("list", "ruleset")
	for _, want := range []string{
		"198.51.100.254 . 25 counter packets 1 bytes 60", "2001:db8::fe . 25 counter packets 1 bytes 80",
		"192.0.2.2 . 198.51.100.254 . 25 counter packets 1", "2001:db8:c::2 . 2001:db8::fe . 25 counter packets 1",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("nft does not list %q:\n%s", want, list)
		}
	}
	f.nft("-j", "list", "ruleset")
}

// TestFirewallKeepsCountsWhenAppliedAnew, whatever else changes.
func TestFirewallKeepsCountsWhenAppliedAnew(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.apply(fwOptions())
	f.checkCells(f.Host, fwOrdinary, []cell{{toRemote, 25, reset}})
	before := f.nft("list", "set", "inet", rules.Table, rules.SetAttempt4)
	reject, observe := fwOptions(), fwOptions()
	reject.SubmissionPorts, reject.Relays = rules.RejectSubmission, nil
	observe.Mode = rules.Observe
	for _, o := range []rules.Options{fwOptions(), reject, observe, fwOptions()} {
		f.apply(o)
		status, err := f.conn.Status(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if got := status.Counters[rules.CounterOut]; got != (nft.Counter{Packets: 2, Bytes: 140}) {
			t.Errorf("after applying %s the counter is %+v", o.Mode, got)
		}
	}
	if after := f.nft("list", "set", "inet", rules.Table, rules.SetAttempt4); strings.Contains(before, "packets 1") != strings.Contains(after, "packets 1") {
		t.Errorf("recorded was\n%s\nnow it is\n%s", before, after)
	}
}

// TestFirewallSetRelays: new relays are reached, old ones no more, by the rules
// of both tables.
func TestFirewallSetRelays(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	if err := f.conn.SetRelays(t.Context(), nil); err == nil {
		t.Error("setting relays of rules that were never applied succeeded")
	}
	f.apply(fwOptions())
	f.serveAll()
	relays := []netip.AddrPort{
		netip.AddrPortFrom(f.Remote.Addr4(), 587), netip.AddrPortFrom(f.Remote.Addr6(), 587),
		netip.AddrPortFrom(f.Remote.Addr4(), 8080), netip.AddrPortFrom(f.Remote.Addr6(), 8080),
	}
	if err := f.conn.SetRelays(t.Context(), relays); err != nil {
		t.Fatal(err)
	}
	f.checkCells(f.Host, fwProxy, []cell{
		{toRemote, 587, "remote"}, {toRemote, 8080, "remote"}, {toRelay, 587, reset}, {toRemote, 25, reset},
	})
	f.checkCells(f.Host, 0, []cell{{toRemote, 8080, reset}, {toRelay, fwOddPort, "remote"}})
	got, err := f.open(nft.Options{}).Relays(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(relays, netip.AddrPort.Compare)
	slices.SortFunc(got, netip.AddrPort.Compare)
	if !slices.Equal(got, relays) {
		t.Errorf("relays in force are %v, want %v", got, relays)
	}
}

// TestFirewallManyRelays: more than fit into one message, all of them loaded.
func TestFirewallManyRelays(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	o := fwOptions()
	o.Relays = nil
	for i := range 10000 {
		v4 := netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})
		v6 := netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 14: byte(i >> 8), 15: byte(i)})
		o.Relays = append(o.Relays, netip.AddrPortFrom(v4, 587), netip.AddrPortFrom(v6, 587))
	}
	f.apply(o)
	got, err := f.conn.Relays(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(o.Relays) {
		t.Errorf("%d relays are in force, want %d", len(got), len(o.Relays))
	}
	if err := f.conn.SetRelays(t.Context(), fwOptions().Relays); err != nil {
		t.Fatal(err)
	}
}

// TestFirewallAppliesWhileOthersChange: a batch that was made from an old
// reading is refused by the kernel and made again.
func TestFirewallAppliesWhileOthersChange(t *testing.T) {
	for name, command := range map[string]string{
		"other tables": "add table inet busy\ndelete table inet busy\n",
		"our table":    "add table inet smtpwall\ndelete table inet smtpwall\n",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFirewall(t, nft.Options{Lock: true})
			changes := f.busy(command)
			for range 50 {
				err := f.conn.Apply(t.Context(), fwOptions())
				// Our table may be gone while it is read, before and after.
				if gone := errors.Is(err, nft.ErrDrift) || errors.Is(err, syscall.ENOENT); err != nil && !(gone && name == "our table") {
					t.Error(err)
				}
			}
			if n := changes(); n < 50 {
				t.Errorf("others made %d changes only", n)
			}
			f.apply(fwOptions())
			f.checkWhole()
		})
	}
}

// busy keeps one nft at work until stop is called, which returns how often the
// commands were written to it.
func (f *firewall) busy(commands string) (stop func() int) {
	f.t.Helper()
	cmd := f.Host.Command(f.t.Context(), "nft", "-i")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	written := make(chan int)
	go func() { // ends with cancel
		n := 0
		for ; ctx.Err() == nil; n++ {
			io.WriteString(stdin, commands)
		}
		stdin.Close()
		written <- n
	}()
	return func() int {
		cancel()
		n := <-written
		cmd.Wait()
		return n
	}
}
