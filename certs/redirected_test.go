package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// TestNamesAreBounded asks for more names than are kept, and measures what is.
func TestNamesAreBounded(t *testing.T) {
	m := open(t, Options{})
	r := m.current.Load().redirected
	unlimited(r)
	const names = maxIssued + 1000
	before, start := heapInUse(), time.Now()
	for i := range names {
		c, err := m.certificate(hello(fmt.Sprintf("host-%d.customers.example.com", i), foreign4))
		if err != nil || c.PrivateKey != r.key {
			t.Fatalf("name %d was not issued: %v", i, err)
		}
	}
	each, kept := time.Since(start)/names, heapInUse()-before
	t.Logf("%d names: %d certificates kept in %d KiB; %s to issue one", names, r.issued.Len(), kept/1024, each)
	if r.issued.Len() != maxIssued {
		t.Errorf("%d certificates kept, want %d", r.issued.Len(), maxIssued)
	}
	if kept > 12<<20 {
		t.Errorf("%d KiB kept, want at most 12 MiB", kept/1024)
	}
	if each > 5*time.Millisecond {
		t.Errorf("%s to issue one, want less than 5 ms", each)
	}
	runtime.KeepAlive(m)
}

// heapInUse is what a full collection leaves.
func heapInUse() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// TestFloodKeepsNamesInUse: names asked for once, however many, do not push out one that is in use.
func TestFloodKeepsNamesInUse(t *testing.T) {
	m := open(t, Options{})
	r := m.current.Load().redirected
	unlimited(r)
	const kept = 100
	var err error
	if r.issued, err = lru.New2Q[string, leaf](kept); err != nil {
		t.Fatal(err)
	}
	first := r.byName("", "smtp.example.com")
	r.byName("", "smtp.example.com")
	for i := range 5 * kept {
		r.byName("", fmt.Sprintf("n%d.example", i))
	}
	if r.byName("", "smtp.example.com") != first {
		t.Error("the name in use was pushed out")
	}
}

func TestConcurrentAskersIssueOnce(t *testing.T) {
	var asked atomic.Int32
	release := make(chan struct{})
	m := open(t, Options{AllowName: func(string) bool {
		asked.Add(1)
		<-release
		return true
	}})
	const askers = 50
	got := make([]*tls.Certificate, askers)
	var all sync.WaitGroup
	for i := range askers {
		all.Go(func() { got[i] = m.current.Load().redirected.byName("", "smtp.example.com") })
	}
	close(release)
	all.Wait()
	if asked.Load() != 1 {
		t.Errorf("asked %d times, want once", asked.Load())
	}
	for _, c := range got {
		if c == nil || c != got[0] {
			t.Fatal("not the same certificate for all")
		}
	}
}

// TestRedirectedRenewal moves the clock over the life of a certificate, and then lets the rate stand in the way.
func TestRedirectedRenewal(t *testing.T) {
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	directory := t.TempDir()
	m := open(t, Options{Directory: directory, Now: func() time.Time { return time.Unix(0, clock.Load()) }})
	r := m.current.Load().redirected
	const day = int64(24 * time.Hour)
	first := r.byName("", "smtp.example.com")
	clock.Add(4 * day)
	if r.byName("", "smtp.example.com") != first {
		t.Error("renewed after 4 of 7 days")
	}
	r.budget.all.SetBurst(0)
	clock.Add(day)
	if r.byName("", "smtp.example.com") != first {
		t.Error("not shown while it is valid and another cannot be issued")
	}
	r.budget.all.SetBurst(1)
	second := r.byName("", "smtp.example.com")
	if second == first || second == nil {
		t.Fatal("not renewed after 5 of 7 days")
	}
	leaf, err := x509.ParseCertificate(second.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	verify(t, leaf, directory, "smtp.example.com", time.Unix(0, clock.Load()))
	r.budget.all.SetBurst(0)
	clock.Add(8 * day)
	if r.byName("", "smtp.example.com") != nil {
		t.Error("an expired certificate was shown")
	}
}

func TestHostileNames(t *testing.T) {
	var asked []string
	m := open(t, Options{Names: []string{"vps1.example.net"}, AllowName: func(name string) bool {
		asked = append(asked, name)
		return true
	}})
	long := strings.Repeat("a", 63)
	refused := []string{
		"*.example.com", "*", ".", ".example.com", "example..com", "example.com.", "-a.example", "a-.example", "a b.example",
		"[2001:db8::1]", "1.2.3", "0x7f.1", "127.1", "1", "999", "example.com:25", "a/../b", "a\x00.example",
		"a\n.example", "bücher.example", "\u212a.example", "\xff\xfe", "xn--a.example", "xn--.example",
		"xn--\x80.example", "user@example.com", "%2e%2e",
		long + "a.example", strings.Join([]string{long, long, long, long}, "."), strings.Repeat("a.", 5000), "a,b", "$(id).example", "'--",
	}
	for _, name := range refused {
		c, err := m.certificate(hello(name, foreign4))
		if err != nil {
			t.Fatal(err)
		}
		if c.Leaf == nil || c.Leaf.DNSNames[0] != "vps1.example.net" {
			t.Errorf("%q was signed for", name)
		}
	}
	if len(asked) != 0 {
		t.Errorf("AllowName was asked for %q", asked)
	}
	accepted := []string{
		long + ".example", strings.Join([]string{long, long, long, strings.Repeat("b", 61)}, "."), "a", "x_y.example", "1a.2b.3c",
		"0.example", "xn--bcher-kva.example", "a--b.example",
	}
	for _, name := range accepted {
		c, err := m.certificate(hello(name, foreign6))
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil || !slices.Equal(leaf.DNSNames, []string{name}) || len(leaf.IPAddresses) != 0 {
			t.Errorf("%q: shown %v: %v", name, leaf.DNSNames, err)
		}
	}
	if !slices.Equal(asked, accepted) {
		t.Errorf("AllowName was asked for %q", asked)
	}
}

// unlimited lets any number of names be signed.
func unlimited(r *redirected) {
	r.budget.all.SetLimit(rate.Inf)
	r.budget.askers.Purge()
	r.budget.askers.Add("", rate.NewLimiter(rate.Inf, 1))
}
