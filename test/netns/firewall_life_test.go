package netns_test

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// others is what other tools have in the kernel: two tables of their own, and
// what Docker and ufw leave by iptables-nft.
const others = `table inet firewalld {
	set blocked {
		type ipv4_addr
		flags interval
		elements = { 203.0.113.0/28 }
	}
	chain in_public {
		type filter hook input priority filter + 10; policy accept;
		ip saddr @blocked counter packets 0 bytes 0 drop
		tcp dport { 22, 80, 443 } accept
	}
}
table ip6 mine {
	map ports {
		type inet_service : verdict
		elements = { 25 : accept }
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		tcp dport vmap @ports
	}
}
`

var dockerRules = []string{
	"-N DOCKER",
	"-N DOCKER-USER",
	"-A FORWARD -j DOCKER-USER",
	"-A DOCKER-USER -p tcp --dport 25 -j ACCEPT",
	"-A OUTPUT -p tcp --dport 25 -j ACCEPT",
	"-t nat -N DOCKER",
	"-t nat -A OUTPUT ! -d 127.0.0.0/8 -j DOCKER",
	"-t nat -A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE",
}

func (f *firewall) addOthers() {
	f.t.Helper()
	f.load(f.Host, others)
	for _, rule := range dockerRules {
		f.run(f.Host, "", "iptables-nft", strings.Fields(rule)...)
	}
}

func TestFirewallRemoveLeavesEverythingAsItWas(t *testing.T) {
	for name, with := range map[string]bool{"alone": false, "beside others": true} {
		t.Run(name, func(t *testing.T) {
			f := newFirewall(t, nft.Options{Lock: true})
			if with {
				f.addOthers()
			}
			before := f.nft("list", "ruleset")
			f.apply(fwOptions())
			if err := f.conn.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			if after := f.nft("list", "ruleset"); after != before {
				t.Errorf("after Remove the ruleset is\n%s\nbefore Apply it was\n%s", after, before)
			}
			f.serveAll()
			f.checkCells(f.Host, 0, []cell{{toRemote, 25, "remote"}, {toRemote, 587, "remote"}})
			f.apply(fwOptions())
			f.checkMatrix(redirecting()) // also against the accepting rules of others
			if err := f.conn.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := f.conn.Remove(t.Context()); err != nil {
				t.Errorf("removing what is not there: %v", err)
			}
		})
	}
}

func TestFirewallSwitchingModes(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.serveAll()
	observe, reject := fwOptions(), fwOptions()
	observe.Mode, reject.SubmissionPorts = rules.Observe, rules.RejectSubmission
	for _, step := range []struct {
		options rules.Options
		want    matrix
		lock    nft.Lock
	}{
		{observe, observing(), nft.LockNone},
		{fwOptions(), redirecting(), nft.LockOurs},
		{reject, rejecting(), nft.LockOurs},
		{observe, observing(), nft.LockNone},
	} {
		f.apply(step.options)
		f.checkMatrix(step.want)
		status, err := f.conn.Status(t.Context(), step.options)
		if err != nil {
			t.Fatal(err)
		}
		if !status.Applied || status.Mode != step.options.Mode || status.Lock != step.lock || len(status.Drifts) > 0 {
			t.Errorf("status %+v after applying %s", status, step.options.Mode)
		}
	}
}

// The tests below start this test program again, as another process that
// applies rules; these variables tell it what to do.
const (
	childRole = "SMTPWALL_TEST_FIREWALL_CHILD"
	childLock = "lock"
)

// TestMain is the child when asked to be one.
func TestMain(m *testing.M) {
	if role, ok := os.LookupEnv(childRole); ok {
		act := firewallChild
		if _, err := netip.ParseAddrPort(role); err == nil {
			act = firewallDial
		}
		if err := act(role); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// firewallChild applies rules, says so, and waits to be killed.
func firewallChild(role string) error {
	o := nft.Options{Lock: role == childLock}
	if inherited := os.NewFile(3, "lock"); role == childLock {
		o.LockFile = inherited
	}
	conn, err := nft.Open(o)
	if err != nil {
		return err
	}
	if err := conn.Apply(context.Background(), fwOptions()); err != nil {
		return err
	}
	fmt.Println("applied")
	_, err = os.Stdin.Read(make([]byte, 1))
	return err
}

// child starts the other process in the host and returns once it has applied
// its rules.
func (f *firewall) child(role string, inherited ...*os.File) *exec.Cmd {
	f.t.Helper()
	self, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := f.Host.Command(f.t.Context(), self)
	cmd.Env = append(os.Environ(), childRole+"="+role)
	cmd.ExtraFiles = inherited
	if _, err := cmd.StdinPipe(); err != nil {
		f.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "applied\n" {
		f.t.Fatalf("the child says %q, %v", line, err)
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
}

func TestFirewallStaysWhenKilled(t *testing.T) {
	f := newFirewall(t, nft.Options{})
	f.serveAll()
	child := f.child("plain")
	golden := f.listTable(rules.Table)
	kill(t, child)
	if got := f.listTable(rules.Table); got != golden {
		t.Errorf("after the kill\n%s\nwant\n%s", got, golden)
	}
	f.checkMatrix(redirecting())
}

// TestFirewallLockIsHandedOn: the lock stays as long as anybody holds its
// socket, and who gets the socket can change it.
func TestFirewallLockIsHandedOn(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.serveAll()
	f.apply(fwOptions())
	stored, err := f.conn.LockFile() // what systemd's store would hold
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	f.conn.Close()
	f.conn = nil
	for range 2 {
		golden := f.listTable(rules.LockTable)
		child := f.child(childLock, stored)
		kill(t, child)
		if got := f.listTable(rules.LockTable); got != golden {
			t.Errorf("after the kill\n%s\nwant\n%s", got, golden)
		}
		if out, err := f.Host.Command(t.Context(), "nft", "delete", "table", "inet", rules.LockTable).CombinedOutput(); err == nil {
			t.Errorf("another process deleted the lock: %s", out)
		}
		f.checkCells(f.Host, 0, []cell{{toRemote, 25, reset}, {toRelay, fwOddPort, reset}, {toRemote, 587, "listener 587"}})
	}
	f.conn = f.open(nft.Options{Lock: true, LockFile: stored})
	if err := f.conn.Remove(t.Context()); err != nil {
		t.Errorf("the heir cannot remove: %v", err)
	}
}

// TestFirewallLockGoesWithItsLastHolder, and the plain table stays.
func TestFirewallLockGoesWithItsLastHolder(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.serveAll()
	f.apply(fwOptions())
	f.conn.Close()
	f.conn = f.open(nft.Options{})
	status, err := f.conn.Status(t.Context(), fwOptions())
	if err != nil {
		t.Fatal(err)
	}
	if status.Lock != nft.LockNone || !status.Applied || len(status.Drifts) > 0 {
		t.Errorf("status %+v", status)
	}
	f.checkMatrix(redirecting())
}

func TestFirewallRefusesAForeignSocketAsLock(t *testing.T) {
	f := newFirewall(t, nft.Options{})
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	err = f.Host.Do(func() error {
		_, err := nft.Open(nft.Options{Lock: true, LockFile: null})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "no netfilter socket") {
		t.Errorf("error %v", err)
	}
}
