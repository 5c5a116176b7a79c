package lab

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addrPair is the IPv4 and the IPv6 address of one interface.
type addrPair struct{ v4, v6 netip.Prefix }

func pair(v4, v6 string) addrPair {
	return addrPair{netip.MustParsePrefix(v4), netip.MustParsePrefix(v6)}
}

// AddAddr gives an interface of the namespace one more address, usable at once
// (no duplicate address detection).
func (n *Namespace) AddAddr(iface string, prefix netip.Prefix) error {
	link, err := n.link.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("finding %s in %s: %w", iface, n.name, err)
	}
	addr := &netlink.Addr{IPNet: ipNet(prefix)}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := n.link.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("adding %s to %s in %s: %w", prefix, iface, n.name, err)
	}
	return n.awaitLocal(prefix.Addr())
}

// awaitLocal waits until the kernel has made an address its own, which it does
// in the background for IPv6. It announces that only to those who subscribed
// before, so ask.
func (n *Namespace) awaitLocal(addr netip.Addr) error {
	var last error
	for deadline := time.Now().Add(addressTime); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		routes, err := n.link.RouteGet(addr.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
		last = err
	}
	return fmt.Errorf("waiting for address %s in %s: %w", addr, n.name, cmp.Or(last, context.DeadlineExceeded))
}

// addressTime is how long the kernel may take over an address.
const addressTime = 5 * time.Second

func (n *Namespace) addPair(iface string, p addrPair) error {
	if err := n.AddAddr(iface, p.v4); err != nil {
		return err
	}
	return n.AddAddr(iface, p.v6)
}

// connect lays a cable: a veth pair, up at both ends.
func connect(a *Namespace, aName string, b *Namespace, bName string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = aName
	cable := &netlink.Veth{LinkAttrs: attrs, PeerName: bName, PeerNamespace: netlink.NsFd(b.fd)}
	if err := a.link.LinkAdd(cable); err != nil {
		return fmt.Errorf("connecting %s and %s: %w", a, b, err)
	}
	if err := a.up(aName); err != nil {
		return err
	}
	return b.up(bName)
}

func (n *Namespace) addBridge(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	// Snooping would hold neighbour discovery back until groups are known.
	snoop := false
	if err := n.link.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snoop}); err != nil {
		return fmt.Errorf("making bridge %s in %s: %w", name, n, err)
	}
	return n.up(name)
}

func (n *Namespace) joinBridge(port, bridge string) error {
	p, err := n.link.LinkByName(port)
	if err != nil {
		return fmt.Errorf("finding %s in %s: %w", port, n, err)
	}
	b, err := n.link.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("finding %s in %s: %w", bridge, n, err)
	}
	if err := n.link.LinkSetMaster(p, b); err != nil {
		return fmt.Errorf("joining %s to %s in %s: %w", port, bridge, n, err)
	}
	return nil
}

func (n *Namespace) up(iface string) error {
	link, err := n.link.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("finding %s in %s: %w", iface, n, err)
	}
	if err := n.link.LinkSetUp(link); err != nil {
		return fmt.Errorf("bringing %s up in %s: %w", iface, n, err)
	}
	return nil
}

func (n *Namespace) addDefaultRoutes(iface string, via addrPair) error {
	link, err := n.link.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("finding %s in %s: %w", iface, n, err)
	}
	for _, gw := range []netip.Prefix{via.v4, via.v6} {
		everything := netip.PrefixFrom(zero(gw.Addr()), 0)
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(everything), Gw: gw.Addr().AsSlice()}
		if err := n.link.RouteAdd(route); err != nil {
			return fmt.Errorf("adding default route by %s in %s: %w", gw.Addr(), n, err)
		}
	}
	return nil
}

func zero(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
