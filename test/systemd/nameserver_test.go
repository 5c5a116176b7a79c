package systemd_test

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// apiKey lets a hook change the zone.
const apiKey = "key-of-the-name-server"

// nameServer has example.net, with what its web API was told. All names below it
// are the machine's: those that begin with "six" by IPv6 alone, others by IPv4.
type nameServer struct {
	four, six netip.Addr

	mu  sync.Mutex
	txt map[string][]string // by name, in lower case and with a dot at the end
}

// newNameServer serves at port 53 of the other host, and the API at port 80.
func newNameServer(t *testing.T, m *machine) *nameServer {
	t.Helper()
	n := &nameServer{four: m.net.Host.Addr4(), six: m.net.Host.Addr6(), txt: map[string][]string{}}
	address := netip.MustParseAddr(remote4)
	var packets net.PacketConn
	err := m.net.Remote.Do(func() (err error) {
		packets, err = net.ListenPacket("udp", netip.AddrPortFrom(address, 53).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	listen := func(port uint16) net.Listener {
		l, err := m.net.Remote.Listen(netip.AddrPortFrom(address, port))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	udp, tcp := &dns.Server{PacketConn: packets, Handler: n}, &dns.Server{Listener: listen(53), Handler: n}
	api := &http.Server{Handler: http.HandlerFunc(n.change)}
	page := listen(80)
	var serving sync.WaitGroup
	for _, serve := range []func() error{udp.ActivateAndServe, tcp.ActivateAndServe, func() error { return api.Serve(page) }} {
		serving.Go(func() { _ = serve() }) // ends when the cleanup closes it
	}
	t.Cleanup(func() {
		packets.Close()
		tcp.Listener.Close()
		api.Close()
		serving.Wait()
	})
	return n
}

// ServeDNS answers what a server of the zone answers.
func (n *nameServer) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	reply := new(dns.Msg).SetReply(question)
	reply.Authoritative = true
	q := question.Question[0]
	name := strings.ToLower(q.Name)
	if !dns.IsSubDomain(zone+".", name) {
		reply.Rcode = dns.RcodeRefused
	} else if text := n.record(name, q.Qtype); text != "" {
		for line := range strings.Lines(text) {
			rr, err := dns.NewRR(q.Name + " 0 IN " + line)
			if err != nil {
				reply.Rcode = dns.RcodeServerFailure
				break
			}
			reply.Answer = append(reply.Answer, rr)
		}
	}
	_ = w.WriteMsg(reply)
}

// record is the type and content of the records of a name, one a line.
func (n *nameServer) record(name string, rrtype uint16) (lines string) {
	six := strings.HasPrefix(name, "six.")
	switch {
	case name == "ns."+zone+".":
		if rrtype == dns.TypeA {
			return "A " + remote4
		}
	case rrtype == dns.TypeTXT:
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, value := range n.txt[name] {
			lines += fmt.Sprintf("TXT %q\n", value)
		}
	case rrtype == dns.TypeA && !six:
		return "A " + n.four.String()
	case rrtype == dns.TypeAAAA && six:
		return "AAAA " + n.six.String()
	case name == zone+"." && rrtype == dns.TypeSOA:
		return "SOA ns." + zone + ". admin." + zone + ". 1 3600 600 86400 60"
	case name == zone+"." && rrtype == dns.TypeNS:
		return "NS ns." + zone + "."
	}
	return lines
}

// change is the API: a form with action, name and value, for who has the key.
func (n *nameServer) change(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+apiKey {
		http.Error(w, "who are you?", http.StatusForbidden)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	name := strings.ToLower(dns.Fqdn(r.FormValue("name")))
	switch r.FormValue("action") {
	case "present":
		n.txt[name] = append(n.txt[name], r.FormValue("value"))
	case "cleanup":
		delete(n.txt, name)
	default:
		http.Error(w, "what shall I do?", http.StatusBadRequest)
	}
}

// left is how many names have TXT records.
func (n *nameServer) left() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.txt)
}
