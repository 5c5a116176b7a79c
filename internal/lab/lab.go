package lab

import (
	"errors"
	"fmt"
	"net/netip"
)

// Options says what a Lab has besides the host and the remote.
type Options struct {
	// Container adds a third namespace behind a bridge of the host, which
	// then forwards.
	Container bool
	// RemoteAddrs are further addresses of the remote. They need not be in
	// the network of the uplink: the host's default route leads there.
	RemoteAddrs []netip.Addr
	// HostAddrs are further addresses of the host, on its uplink.
	HostAddrs []netip.Addr
}

// Lab is a small network of namespaces.
type Lab struct {
	// Host is the machine to protect.
	Host *Namespace
	// Remote is everything outside.
	Remote *Namespace
	// Container sits behind a bridge of the host; nil unless asked for.
	Container *Namespace
}

// Names of the interfaces inside a Lab.
const (
	Uplink      = "uplink0" // in the host, towards the remote
	Bridge      = "br0"     // in the host, towards the container
	RemoteIf    = "eth0"    // in the remote
	ContainerIf = "eth0"    // in the container

	bridgePort = "ct0"
)

// hostPlan returns the address plan, which is the same in every Lab: the host on
// its uplink, the remote, the host on its bridge, the container.
func hostPlan() (host, remote, bridge, container addrPair) {
	return pair("198.51.100.1/24", "2001:db8::1/64"),
		pair("198.51.100.254/24", "2001:db8::fe/64"),
		pair("192.0.2.1/24", "2001:db8:c::1/64"),
		pair("192.0.2.2/24", "2001:db8:c::2/64")
}

// New builds the network. It needs root. On error nothing is left behind.
func New(opts Options) (*Lab, error) {
	l := &Lab{}
	if err := l.build(opts); err != nil {
		return nil, errors.Join(fmt.Errorf("building the lab network: %w", err), l.Close())
	}
	return l, nil
}

// Close gives the namespaces back. Processes that still run inside keep theirs
// alive until they end.
func (l *Lab) Close() error {
	return errors.Join(l.Host.close(), l.Remote.close(), l.Container.close())
}

func (l *Lab) build(opts Options) error {
	var err error
	host, remote, _, _ := hostPlan()
	if l.Host, err = newNamespace("host", host); err != nil {
		return err
	}
	if l.Remote, err = newNamespace("remote", remote); err != nil {
		return err
	}
	if err := l.connectUplink(opts); err != nil {
		return err
	}
	if !opts.Container {
		return nil
	}
	return l.addContainer()
}

func (l *Lab) connectUplink(opts Options) error {
	if err := connect(l.Host, Uplink, l.Remote, RemoteIf); err != nil {
		return err
	}
	if err := l.Host.addPair(Uplink, l.Host.plan); err != nil {
		return err
	}
	if err := l.Remote.addPair(RemoteIf, l.Remote.plan); err != nil {
		return err
	}
	for _, a := range opts.RemoteAddrs {
		if err := l.Remote.AddAddr(RemoteIf, netip.PrefixFrom(a, a.BitLen())); err != nil {
			return err
		}
	}
	for _, a := range opts.HostAddrs {
		if err := l.Host.AddAddr(Uplink, netip.PrefixFrom(a, a.BitLen())); err != nil {
			return err
		}
	}
	return l.Host.addDefaultRoutes(Uplink, l.Remote.plan)
}

func (l *Lab) addContainer() error {
	host, _, bridge, container := hostPlan()
	var err error
	if l.Container, err = newNamespace("container", container); err != nil {
		return err
	}
	if err := l.Host.addBridge(Bridge); err != nil {
		return err
	}
	if err := connect(l.Host, bridgePort, l.Container, ContainerIf); err != nil {
		return err
	}
	if err := l.Host.joinBridge(bridgePort, Bridge); err != nil {
		return err
	}
	if err := l.Host.addPair(Bridge, bridge); err != nil {
		return err
	}
	if err := l.Container.addPair(ContainerIf, container); err != nil {
		return err
	}
	if err := l.Container.addDefaultRoutes(ContainerIf, bridge); err != nil {
		return err
	}
	if err := l.Host.forward(); err != nil {
		return err
	}
	return l.Remote.addDefaultRoutes(RemoteIf, host)
}
