package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// nameServer answers on UDP and TCP of one loopback port, with the records of a
// zone file's lines or with a reply code, as told last.
type nameServer struct {
	port     string
	mu       sync.Mutex
	records  []string
	rcode    int
	truncate bool // what goes by UDP
	asked    []string
}

func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	s := &nameServer{}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, s.port, _ = net.SplitHostPort(tcp.Addr().String())
	for _, srv := range []*dns.Server{{Listener: tcp}, {PacketConn: udp}} {
		started, ended := make(chan struct{}), make(chan struct{})
		srv.Handler, srv.NotifyStartedFunc = s, func() { close(started) }
		go func() { srv.ActivateAndServe(); close(ended) }()
		<-started
		t.Cleanup(func() { srv.Shutdown(); <-ended })
	}
	return s
}

func (s *nameServer) answer(rcode int, records ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rcode, s.records = rcode, records
}

func (s *nameServer) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := query.Question[0]
	s.asked = append(s.asked, w.LocalAddr().Network()+" "+q.Name)
	reply := new(dns.Msg).SetRcode(query, s.rcode)
	if s.truncate && w.LocalAddr().Network() == "udp" {
		reply.Truncated = true
		w.WriteMsg(reply)
		return
	}
	for _, line := range s.records {
		rr, err := dns.NewRR(line)
		switch {
		case err != nil:
			panic(err)
		case rr.Header().Rrtype == dns.TypeSOA:
			reply.Ns = append(reply.Ns, rr)
		case rr.Header().Rrtype == q.Qtype || rr.Header().Rrtype == dns.TypeCNAME:
			reply.Answer = append(reply.Answer, rr)
		}
	}
	w.WriteMsg(reply)
}

// resolver asks s alone; hosts are the lines of the hosts file.
func (s *nameServer) resolver(t *testing.T, hosts ...string) *resolver {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, lines ...string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return &resolver{
		hosts: hostsFile{path: write("hosts", hosts...)},
		dns:   dnsClient{config: write("resolv.conf", "nameserver 127.0.0.1", "search example.net", "options attempts:1"), port: s.port},
		fallback: func(context.Context, string, string) ([]netip.Addr, error) {
			return nil, errors.New("the fallback was asked")
		},
	}
}

func addrs(list ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func TestResolverLookup(t *testing.T) {
	const host = "relay.example.com"
	tests := []struct {
		name    string
		host    string
		v6      bool
		hosts   []string
		rcode   int
		records []string
		want    answer
		err     error
	}{
		{name: "the shortest lifetime counts",
			records: []string{"relay.example.com. 300 A 192.0.2.2", "relay.example.com. 120 A 192.0.2.1"},
			want:    answer{addrs("192.0.2.1", "192.0.2.2"), 2 * time.Minute}},
		{name: "v6", v6: true,
			records: []string{"relay.example.com. 300 A 192.0.2.2", "relay.example.com. 60 AAAA 2001:db8::1"},
			want:    answer{addrs("2001:db8::1"), time.Minute}},
		{name: "an alias, whose lifetime counts too",
			records: []string{"relay.example.com. 30 CNAME a.example.com.", "a.example.com. 20 CNAME b.example.com.", "b.example.com. 300 A 192.0.2.1"},
			want:    answer{addrs("192.0.2.1"), 20 * time.Second}},
		{name: "records of other names are not ours",
			records: []string{"relay.example.com. 300 A 192.0.2.1", "other.example.com. 300 A 192.0.2.66"},
			want:    answer{addrs("192.0.2.1"), 5 * time.Minute}},
		{name: "aliases in a circle",
			records: []string{"relay.example.com. 30 CNAME a.example.com.", "a.example.com. 30 CNAME relay.example.com."},
			want:    answer{nil, 30 * time.Second}},
		{name: "no record of this kind, for as long as the zone says",
			records: []string{"example.com. 900 SOA ns. root. 1 2 3 4 90"}, want: answer{nil, 90 * time.Second}},
		{name: "blocked by the name server",
			records: []string{"relay.example.com. 60 A 0.0.0.0", "relay.example.com. 60 A 224.0.0.1"}, want: answer{nil, time.Minute}},
		{name: "no such name", rcode: dns.RcodeNameError, err: errNoSuchHost},
		{name: "server failure goes on to the fallback", rcode: dns.RcodeServerFailure, err: errNoServer},
		{name: "hosts file first", hosts: []string{"# comment", "192.0.2.7 x Relay.example.com. # y", "2001:db8::7 relay.example.com"},
			records: []string{"relay.example.com. 300 A 192.0.2.2"}, want: answer{addrs("192.0.2.7"), staticTTL}},
		{name: "the search list", host: "relay", records: []string{"relay.example.net. 300 A 192.0.2.9"},
			want: answer{addrs("192.0.2.9"), 5 * time.Minute}},
	}
	server := startNameServer(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server.answer(tt.rcode, tt.records...)
			name := tt.host
			if name == "" {
				name = host
			}
			got, err := server.resolver(t, tt.hosts...).lookup(t.Context(), name, tt.v6)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if !slices.Equal(got.addrs, tt.want.addrs) || got.ttl != tt.want.ttl {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestResolverTakesALongAnswerByTCP(t *testing.T) {
	server := startNameServer(t)
	server.truncate = true
	var records []string
	for i := range 200 {
		records = append(records, fmt.Sprintf("relay.example.com. 60 A 192.0.2.%d", i))
	}
	server.answer(dns.RcodeSuccess, records...)
	got, err := server.resolver(t).lookup(t.Context(), "relay.example.com", false)
	if err != nil || len(got.addrs) != 200 {
		t.Fatalf("%d addresses, %v", len(got.addrs), err)
	}
	if want := []string{"udp relay.example.com.", "tcp relay.example.com."}; !slices.Equal(server.asked, want) {
		t.Errorf("asked %q, want %q", server.asked, want)
	}
}

func TestOfFamilyIsBounded(t *testing.T) {
	var many []netip.Addr
	for i := range 2 * maxAddresses {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}))
	}
	if n := len(ofFamily(many, false)); n != maxAddresses {
		t.Errorf("%d addresses, want %d", n, maxAddresses)
	}
	if got := ofFamily(addrs("::ffff:192.0.2.1", "192.0.2.1", "fe80::1%eth0"), false); !slices.Equal(got, addrs("192.0.2.1")) {
		t.Errorf("got %v", got)
	}
}

func TestResolverFallback(t *testing.T) {
	server := startNameServer(t)
	server.answer(dns.RcodeRefused)
	r := server.resolver(t)
	r.fallback = func(_ context.Context, network, host string) ([]netip.Addr, error) {
		if network != "ip6" || host != "relay.example.com" {
			t.Errorf("asked for %s of %s", network, host)
		}
		return addrs("2001:db8::5", "192.0.2.5"), nil
	}
	got, err := r.lookup(t.Context(), "Relay.Example.Com.", true)
	if err != nil || !slices.Equal(got.addrs, addrs("2001:db8::5")) || got.ttl != staticTTL {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestReadReplyRefusesAnotherQuestion(t *testing.T) {
	query := new(dns.Msg).SetQuestion("relay.example.com.", dns.TypeA)
	other := new(dns.Msg).SetReply(new(dns.Msg).SetQuestion("evil.example.com.", dns.TypeA))
	if _, err := readReply(query, other); err == nil {
		t.Error("took a reply to another question")
	}
	if _, err := readReply(query, query); err == nil {
		t.Error("took a query for a reply")
	}
}

func FuzzScanHosts(f *testing.F) {
	f.Add("192.0.2.1 relay.example.com\n::1 localhost # x", "relay.example.com")
	f.Add("\x00\xff 1 2", "1")
	f.Fuzz(func(t *testing.T, file, host string) {
		for _, a := range scanHosts(strings.NewReader(file), host) {
			if !a.IsValid() {
				t.Errorf("invalid address from %q", file)
			}
		}
	})
}
