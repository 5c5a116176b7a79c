package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/time/rate"
)

// askingConn is a redirected connection that says who is behind it.
type askingConn struct {
	redirectedConn
	peer string
}

func (c askingConn) PeerKey() string { return c.peer }

// helloOf is what a peer says that asks for a name.
func helloOf(peer, serverName string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{ServerName: serverName, Conn: askingConn{redirectedConn{loopback{}, foreign4}, peer}}
}

// limiterOf lets n through and never another.
func limiterOf(n int) *rate.Limiter { return rate.NewLimiter(0, n) }

// TestBudgetOfAnAsker: one who asks for a million names gets a burst and then the rate, and leaves the others theirs.
func TestBudgetOfAnAsker(t *testing.T) {
	b, err := newBudget()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	spend := func(asker string, times int) (spent int) {
		for range times {
			switch err := b.spend(asker, now); {
			case err == nil:
				spent++
			case !errors.Is(err, errTooManyOfAsker):
				t.Fatalf("%s: %v", asker, err)
			}
		}
		return spent
	}
	if spent := spend("uid:1000", 1_000_000); spent != askerBurst {
		t.Errorf("%d of a million, want %d", spent, askerBurst)
	}
	for second := range 60 {
		now = now.Add(time.Second)
		if spent := spend("uid:1000", 10_000); spent != askerRate {
			t.Errorf("%d in the second %d after, want %d", spent, second, askerRate)
		}
		if spent := spend(fmt.Sprintf("uid:%d", 2000+second), 10); spent != 10 {
			t.Errorf("%d for another in the second %d after, want 10", spent, second)
		}
	}
	if spent := spend("", 2*askerBurst); spent != askerBurst {
		t.Errorf("%d for those who are not told apart, want %d", spent, askerBurst)
	}
}

// TestBudgetOverAll: however many ask, no more is signed than is good for the host, and no more of them is remembered.
func TestBudgetOverAll(t *testing.T) {
	before := heapInUse()
	b, err := newBudget()
	if err != nil {
		t.Fatal(err)
	}
	now, spent := time.Now(), 0
	for i := range 3 * issueBurst {
		switch err := b.spend(fmt.Sprintf("container:%064d", i), now); {
		case err == nil:
			spent++
		case !errors.Is(err, errTooMany):
			t.Fatal(err)
		}
	}
	if spent != issueBurst {
		t.Errorf("%d in one moment, want %d", spent, issueBurst)
	}
	kept := heapInUse() - before
	t.Logf("%d askers: %d KiB", b.askers.Len(), kept/1024)
	if b.askers.Len() != maxAskers || kept > 1<<20 {
		t.Errorf("%d askers in %d KiB remembered, want %d in 1024 at most", b.askers.Len(), kept/1024, maxAskers)
	}
	runtime.KeepAlive(b)
}

// TestFloodingAsker goes over handshakes' way: who has used up the budget is shown the host's certificate, or one that
// is there already; another peer's new name is signed; and it is said once, with who it was.
func TestFloodingAsker(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	m := open(t, Options{Names: []string{"vps1.example.net"}, Logger: zap.New(core)})
	r := m.current.Load().redirected
	r.budget.askers.Add("uid:1000", limiterOf(5))
	issued := func(peer, name string) bool {
		c, err := m.certificate(helloOf(peer, name))
		if err != nil {
			t.Fatal(err)
		}
		return c.PrivateKey == r.key
	}
	flood := 0
	for i := range 20 {
		if issued("uid:1000", fmt.Sprintf("n%d.example", i)) {
			flood++
		}
	}
	if flood != 5 {
		t.Errorf("%d of the flood issued, want 5", flood)
	}
	if !issued("uid:1001", "smtp.example.com") {
		t.Error("another peer's name was not issued")
	}
	if !issued("uid:1000", "smtp.example.com") {
		t.Error("a name that was there was not shown")
	}
	if !issued("", "mail.example.com") {
		t.Error("a name of a peer that is not known was not issued")
	}
	if logs.Len() != 1 || !strings.HasPrefix(logs.All()[0].Message, "too many new names") ||
		logs.All()[0].ContextMap()["identity"] != "uid:1000" {
		t.Errorf("logged %v, want one warning", logs.All())
	}
}

// TestAskersDoNotShareFlights: who has used up the budget asks for a name in the same moment as another.
func TestAskersDoNotShareFlights(t *testing.T) {
	entered, release := make(chan struct{}, 2), make(chan struct{})
	m := open(t, Options{AllowName: func(string) bool {
		entered <- struct{}{}
		<-release
		return true
	}})
	r := m.current.Load().redirected
	r.budget.askers.Add("uid:1000", limiterOf(0))
	got := map[string]*tls.Certificate{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, peer := range []string{"uid:1000", "uid:1001"} {
		all.Go(func() {
			c := r.byName(peer, "smtp.example.com")
			mu.Lock()
			defer mu.Unlock()
			got[peer] = c
		})
		<-entered
	}
	close(release)
	all.Wait()
	if got["uid:1000"] != nil || got["uid:1001"] == nil {
		t.Errorf("issued %v, want one for uid:1001 alone", got)
	}
}

func TestPeerKey(t *testing.T) {
	for want, conn := range map[string]net.Conn{"": loopback{}, "uid:33": askingConn{peer: "uid:33"}} {
		if got := peerKey(conn); got != want {
			t.Errorf("peer key %q, want %q", got, want)
		}
	}
	if peerKey(nil) != "" {
		t.Error("a hello without a connection has a key")
	}
}
