package config

import "net/netip"

// Endpoint is one place where a relay may be reached.
type Endpoint struct {
	Host string // as in Relay
	Port uint16
	TLS  TLS // never TLSByPort
}

// Endpoints returns where to try the relay, in order. A relay without a port is
// tried at 587, 2525 and 465, less those whose kind of TLS is not the one that
// the file asks for.
func (r Relay) Endpoints() []Endpoint {
	if r.Port != 0 {
		return []Endpoint{{r.Host, r.Port, r.TLS.on(r.Port)}}
	}
	var endpoints []Endpoint
	for _, port := range []uint16{587, 2525, 465} {
		if r.TLS == TLSByPort || r.TLS == TLSNone || r.TLS == TLSByPort.on(port) {
			endpoints = append(endpoints, Endpoint{r.Host, port, r.TLS.on(port)})
		}
	}
	return endpoints
}

// on resolves TLSByPort; port 465 is implicit TLS by RFC 8314 section 7.3.
func (t TLS) on(port uint16) TLS {
	switch {
	case t != TLSByPort:
		return t
	case port == 465:
		return TLSImplicit
	default:
		return TLSStartTLS
	}
}

// isLoopback reports whether host is this machine for certain: no name but
// "localhost" is (RFC 6761 section 6.3).
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}
