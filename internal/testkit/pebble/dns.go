package pebble

import (
	"context"
	"net/http"
	"net/netip"
	"os"
)

// dnsProgram is a running pebble-challtestsrv, of which only the DNS server is
// used.
type dnsProgram struct {
	*program
	client         *http.Client
	at, management netip.AddrPort
	kept           []*os.File
}

func startDNS(opts Options, client *http.Client, said *transcript) (d *dnsProgram, err error) {
	d = &dnsProgram{client: client}
	defer func() {
		if err != nil {
			d.end()
		}
	}()
	for _, at := range []*netip.AddrPort{&d.at, &d.management} {
		var kept *os.File
		if kept, *at, err = keepPort(opts.Network, opts.Address); err != nil {
			return nil, err
		}
		d.kept = append(d.kept, kept)
	}
	path, err := dnsServer()
	if err != nil {
		return nil, err
	}
	cmd := opts.Network.Command(context.Background(), path, "-dnsserver", d.at.String(), "-management", d.management.String(),
		"-defaultIPv4", opts.Hosts.String(), "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "")
	if d.program, err = launch(cmd, said); err != nil {
		return nil, err
	}
	// The management comes up last, and has nothing to ask for but this.
	return d, d.program.await(func() error {
		return d.post("clear-request-history", map[string]string{"Type": "dns", "Host": "none.test"})
	})
}

func (d *dnsProgram) end() {
	if d.program != nil {
		d.program.end()
	}
	for _, kept := range d.kept {
		_ = kept.Close()
	}
}

func (d *dnsProgram) post(page string, request any) error {
	return post(d.client, "http://"+d.management.String()+"/"+page, request)
}

// SetAddress tells the CA's DNS server where a name lives.
func (ca *CA) SetAddress(name string, addresses ...netip.Addr) {
	ca.t.Helper()
	request := map[string]any{"host": name, "addresses": addresses}
	if err := ca.dns.post("add-a", request); err != nil {
		ca.t.Fatalf("telling where %s is: %v", name, err)
	}
}
