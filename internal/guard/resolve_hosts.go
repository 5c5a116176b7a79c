package guard

import (
	"bufio"
	"bytes"
	"io"
	"net/netip"
	"os"
	"strings"
)

// maxHostsFile bounds what is read of the hosts file. Block lists of a few
// megabytes are in use.
const maxHostsFile = 16 << 20

// hostsFile looks names up in hosts(5). It is read at each look-up, a few times
// an hour: there is no copy that could be stale.
type hostsFile struct{ path string }

// lookup returns all addresses of host, which is in lower case. A file that
// cannot be read has none.
func (h hostsFile) lookup(host string) []netip.Addr {
	f, err := os.Open(h.path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return scanHosts(io.LimitReader(f, maxHostsFile), host)
}

func scanHosts(r io.Reader, host string) []netip.Addr {
	var addrs []netip.Addr
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line, _, _ := bytes.Cut(lines.Bytes(), []byte("#"))
		fields := bytes.Fields(line)
		if len(fields) < 2 || !hasName(fields[1:], host) {
			continue
		}
		if a, err := netip.ParseAddr(string(fields[0])); err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

func hasName(names [][]byte, host string) bool {
	for _, n := range names {
		if strings.EqualFold(strings.TrimSuffix(string(n), "."), host) {
			return true
		}
	}
	return false
}
