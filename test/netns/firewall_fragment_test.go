package netns_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// fragmentCount is a table of the remote that counts the fragments that get
// there, before they are put together.
const fragmentCount = `table netdev fragments {
	counter first { }
	chain arriving {
		type filter hook ingress device eth0 priority 0
		ip6 nexthdr 44 frag frag-off 0 counter name first
	}
}
`

// fate sends a first fragment, again and again as it may get lost on the way,
// until it got to the remote or was counted by a table.
func (f *firewall) fate(table string, next byte, payload []byte) (passed, counted bool) {
	f.t.Helper()
	f.run(f.Remote, "", "nft", "reset", "counters")
	for deadline := time.Now().Add(5 * time.Second); !passed && !counted && time.Now().Before(deadline); {
		f.sendFragment(next, payload)
		passed = !strings.Contains(f.run(f.Remote, "", "nft", "list", "counter", "netdev", "fragments", "first"), "packets 0 ")
		counted = f.packets(table, rules.CounterForward) > 0
	}
	return passed, counted
}

// TestFirewallRefusesHeadlessFragments: where connections are not tracked, and
// so nothing is put together on the way, a first fragment must show the ports.
func TestFirewallRefusesHeadlessFragments(t *testing.T) {
	reject := fwOptions()
	reject.SubmissionPorts = rules.RejectSubmission
	syn := synPacket(25)
	padding := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	for _, c := range []struct {
		name   string
		next   byte // the header that follows the fragment header
		first  []byte
		passes bool
	}{
		{"destination options only", unix.IPPROTO_DSTOPTS, padding(unix.IPPROTO_TCP), false},
		{"two headers, one cut off", unix.IPPROTO_DSTOPTS, padding(unix.IPPROTO_DSTOPTS), false},
		{"routing header only", unix.IPPROTO_ROUTING, routingHeader(), false},
		{"ports of mail", unix.IPPROTO_TCP, syn[:8], false},
		{"options and ports of mail", unix.IPPROTO_DSTOPTS, append(padding(unix.IPPROTO_TCP), syn...), false},
		{"other ports", unix.IPPROTO_TCP, synPacket(8080)[:8], true},
		{"options and other ports", unix.IPPROTO_DSTOPTS, append(padding(unix.IPPROTO_TCP), synPacket(8080)[:8]...), true},
		{"no TCP", unix.IPPROTO_UDP, make([]byte, 8), true},
		{"authenticated", unix.IPPROTO_AH, []byte{unix.IPPROTO_TCP, 4, 0, 0, 0, 0, 0, 1}, true},
		{"encrypted", unix.IPPROTO_ESP, make([]byte, 8), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFirewall(t, nft.Options{Lock: true})
			f.apply(reject)
			f.load(f.Remote, fragmentCount)
			f.checkCells(f.Container, 0, []cell{{toRelay, 8080, reset}}) // nobody listens; neighbours are known
			for _, table := range []string{rules.Table, rules.LockTable} {
				if passed, counted := f.fate(table, c.next, c.first); passed != c.passes || counted == c.passes {
					t.Errorf("%s: first fragment passed: %t, counted: %t, want it to pass: %t", table, passed, counted, c.passes)
				}
				if table == rules.Table {
					f.nft("delete", "table", "inet", table)
				}
			}
		})
	}
}

// sendFragment sends a first fragment from the container to the remote.
func (f *firewall) sendFragment(next byte, payload []byte) {
	f.t.Helper()
	from, to := f.Container.Addr6().As16(), f.Remote.Addr6().As16()
	packet := binary.BigEndian.AppendUint32(nil, 6<<28)
	packet = binary.BigEndian.AppendUint16(packet, uint16(8+len(payload)))
	packet = append(packet, unix.IPPROTO_FRAGMENT, 64)
	packet = append(append(packet, from[:]...), to[:]...)
	packet = append(packet, next, 0)
	packet = binary.BigEndian.AppendUint16(packet, 1) // at offset 0, more follow
	packet = append(binary.BigEndian.AppendUint32(packet, 2525), payload...)
	err := f.Container.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return fmt.Errorf("opening a raw socket: %w", err)
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, packet, 0, &unix.SockaddrInet6{Addr: to})
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// synPacket is a TCP header that opens a connection. Its checksum is of no
// interest on the way.
func synPacket(port uint16) []byte {
	header := make([]byte, 20)
	binary.BigEndian.PutUint16(header, 40000)
	binary.BigEndian.PutUint16(header[2:], port)
	header[12], header[13] = 5<<4, 2
	return header
}

// routingHeader is a routing header of type 2 whose address is cut off.
func routingHeader() []byte { return []byte{unix.IPPROTO_TCP, 2, 2, 0, 0, 0, 0, 0} }
