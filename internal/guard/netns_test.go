package guard

import (
	"slices"
	"strings"
	"testing"
)

const fibTrie = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
     +-- 192.0.2.0/24 2 0 2
        +-- 192.0.2.0/30 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.2
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
  +-- 0.0.0.0/0 3 0 5
           |-- 192.0.2.2
              /32 host LOCAL
`

func TestParseFIBTrie(t *testing.T) {
	if got, want := parseFIBTrie(strings.NewReader(fibTrie)), addrs("127.0.0.1", "192.0.2.2"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParseIfInet6(t *testing.T) {
	const text = "00000000000000000000000000000001 01 80 10 80       lo\n" +
		"20010db8000c00000000000000000002 02 40 00 80     eth0\n" +
		"not an address\n\n0011 22\n"
	if got, want := parseIfInet6(strings.NewReader(text)), addrs("::1", "2001:db8:c::2"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzParseNetnsFiles(f *testing.F) {
	f.Add(fibTrie)
	f.Add("20010db8000c00000000000000000002 02 40 00 80     eth0\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, a := range parseFIBTrie(strings.NewReader(text)) {
			if !a.Is4() {
				t.Errorf("%v from fib_trie", a)
			}
		}
		for _, a := range parseIfInet6(strings.NewReader(text)) {
			if !a.Is6() {
				t.Errorf("%v from if_inet6", a)
			}
		}
	})
}

func TestIsBelow(t *testing.T) {
	for _, tt := range []struct {
		path, top string
		want      bool
	}{
		{"/a.service", "/a.service", true},
		{"/a.service/b", "/a.service", false},
		{"/1/2/3/4/5/6/7", "/1/2/3/4/5", true},
		{"/1/2/3/4/55", "/1/2/3/4/5", false},
		{"", "/", false},
	} {
		if got := isBelow(tt.path, tt.top); got != tt.want {
			t.Errorf("isBelow(%q, %q) = %v", tt.path, tt.top, got)
		}
	}
}

func TestOnly(t *testing.T) {
	for _, tt := range []struct {
		name string
		all  []seen
		want seen
		ok   bool
	}{
		{"none", nil, seen{}, false},
		{"one", []seen{{7, "/usr/bin/swaks"}}, seen{7, "/usr/bin/swaks"}, true},
		{"workers of one program", []seen{{7, "/usr/sbin/php-fpm"}, {8, "/usr/sbin/php-fpm"}}, seen{0, "/usr/sbin/php-fpm"}, true},
		{"two programs", []seen{{7, "/bin/sh"}, {8, "/usr/bin/swaks"}}, seen{}, false},
		{"two that we may not see", []seen{{7, ""}, {8, ""}}, seen{}, false},
	} {
		if got, ok := only(tt.all); got != tt.want || ok != tt.ok {
			t.Errorf("%s: got %v, %v", tt.name, got, ok)
		}
	}
}
