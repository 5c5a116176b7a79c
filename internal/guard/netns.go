package guard

import (
	"bufio"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// netnsAge is how long a search for the addresses of containers is good
	// for, and missAge how long for an address that it did not find: containers
	// come and go.
	netnsAge = 5 * time.Second
	missAge  = 500 * time.Millisecond
	// maxNetns bounds the network namespaces that are looked into.
	maxNetns = 4096
)

// netnsFinder says which process lives in the network namespace that has an
// address: forwarded packets have no owner here, and a container is known by
// the cgroup of its processes.
type netnsFinder struct {
	procs procs

	mu     sync.Mutex
	filled time.Time
	byAddr map[netip.Addr]resident
}

// resident is a process in a network namespace.
type resident struct {
	pid   int // 0: more than one namespace has the address
	netns string
}

// find returns a process of the one foreign network namespace that has addr. Of
// an address that several have, as private networks may, nobody is the owner.
func (f *netnsFinder) find(addr netip.Addr) (pid int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	addr = addr.Unmap().WithZone("")
	if r, known := f.byAddr[addr]; time.Since(f.filled) > netnsAge || time.Since(f.filled) > missAge && !f.stands(r, known) {
		f.byAddr = f.search()
		f.filled = time.Now()
	}
	r, known := f.byAddr[addr]
	return r.pid, r.pid != 0 && f.stands(r, known)
}

// stands reports whether what was found is still so: a pid is given to another
// process in time.
func (f *netnsFinder) stands(r resident, known bool) bool {
	return known && (r.pid == 0 || f.namespace(r.pid) == r.netns)
}

// search looks into each network namespace but our own once.
func (f *netnsFinder) search() map[netip.Addr]resident {
	byAddr := map[netip.Addr]resident{}
	visited := map[string]bool{f.namespace(os.Getpid()): true, "": true}
	for _, pid := range f.procs.pids() {
		ns := f.namespace(pid)
		if visited[ns] || len(visited) > maxNetns {
			continue
		}
		visited[ns] = true
		for _, a := range f.addresses(pid) {
			if _, taken := byAddr[a]; taken {
				byAddr[a] = resident{}
				continue
			}
			byAddr[a] = resident{pid: pid, netns: ns}
		}
	}
	return byAddr
}

func (f *netnsFinder) namespace(pid int) string {
	link, err := os.Readlink(f.procs.path(pid, "ns/net"))
	if err != nil {
		return ""
	}
	return link
}

// addresses are those of a process's network namespace, without the loopback's and
// link-local ones, which mean nothing outside.
func (f *netnsFinder) addresses(pid int) []netip.Addr {
	var all []netip.Addr
	for name, parse := range map[string]func(io.Reader) []netip.Addr{"fib_trie": parseFIBTrie, "if_inet6": parseIfInet6} {
		file, err := os.Open(f.procs.path(pid, "net/"+name))
		if err != nil {
			continue
		}
		for _, a := range parse(file) {
			if a.IsGlobalUnicast() {
				all = append(all, a)
			}
		}
		file.Close()
	}
	return all
}

// parseFIBTrie reads the local IPv4 addresses, each once, from the kernel's
// routing table: a leaf's line "|-- 192.0.2.2" followed by one that says "/32
// host LOCAL".
func parseFIBTrie(r io.Reader) []netip.Addr {
	var all []netip.Addr
	known := map[netip.Addr]bool{}
	var leaf netip.Addr
	for lines := bufio.NewScanner(r); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if text, ok := strings.CutPrefix(line, "|-- "); ok {
			leaf, _ = netip.ParseAddr(text)
			continue
		}
		if strings.HasPrefix(line, "/32 host LOCAL") && leaf.Is4() && !known[leaf] {
			known[leaf] = true
			all = append(all, leaf)
		}
	}
	return all
}

// parseIfInet6 reads lines that begin with an IPv6 address of 32 hexadecimal
// digits.
func parseIfInet6(r io.Reader) []netip.Addr {
	var all []netip.Addr
	for lines := bufio.NewScanner(r); lines.Scan(); {
		digits, _, _ := strings.Cut(lines.Text(), " ")
		if b, err := hex.DecodeString(digits); err == nil && len(b) == 16 {
			all = append(all, netip.AddrFrom16([16]byte(b)))
		}
	}
	return all
}
