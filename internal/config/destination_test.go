package config

import "testing"

func TestParseDestination(t *testing.T) {
	for text, want := range map[string]struct {
		host string
		port uint16
	}{
		"smtp.gmail.com:587": {"smtp.gmail.com", 587}, "SMTP.Gmail.com:25": {"smtp.gmail.com", 25}, "192.0.2.7:465": {"192.0.2.7", 465},
		"[2001:DB8::7]:2525": {"2001:db8::7", 2525}, "192.0.2.0/24:25": {"192.0.2.0/24", 25}, "[2001:db8::/32]:25": {"2001:db8::/32", 25},
		"0.0.0.0/0:25": {"0.0.0.0/0", 25}, "[::/0]:25": {"::/0", 25}, "[::ffff:192.0.2.7]:25": {"192.0.2.7", 25}, "192.0.2.7/32:25": {"192.0.2.7/32", 25},
		"": {}, "smtp.gmail.com": {}, "smtp.gmail.com:": {}, "smtp.gmail.com:0": {}, "smtp.gmail.com:80": {}, "smtp.gmail.com:65561": {}, "smtp.gmail.com:+25": {},
		":25": {}, "*:25": {}, "*.gmail.com:25": {}, "192.0.2.7/24:25": {}, "192.0.2.0/:25": {}, "192.0.2/24:25": {}, "2001:db8::/32:25": {}, "/24:25": {},
		"[::ffff:192.0.2.0/120]:25": {}, "0.0.0.0:25": {}, "[::]:25": {}, "224.0.0.1:25": {}, "[ff00::/8]:25": {}, "[fe80::1%eth0]:25": {}, "a b:25": {}, "gmail.com/24:25": {},
	} {
		host, port, err := parseDestination(text)
		if want.port == 0 {
			if err == nil || asFlaw(err).hint == "" {
				t.Errorf("%q: got %s and %d, %v, want an error with a hint", text, host, port, err)
			}
			continue
		}
		if err != nil || host != want.host || port != want.port {
			t.Errorf("%q: got %s and %d, %v", text, host, port, err)
		}
	}
}

func TestParseMilter(t *testing.T) {
	for text, want := range map[string][2]string{
		"unix:/run/rspamd/milter.sock": {"unix", "/run/rspamd/milter.sock"}, "inet:127.0.0.1:11332": {"tcp", "127.0.0.1:11332"}, "inet:[::1]:8891": {"tcp", "[::1]:8891"},
		"inet:Rspamd.Example.com:11332": {"tcp", "rspamd.example.com:11332"}, "inet:localhost:1": {"tcp", "localhost:1"},
		"": {}, "unix:": {}, "unix:relative": {}, "unix:/a/../b": {}, "inet:": {}, "inet:11332": {}, "inet::11332": {}, "inet:127.0.0.1:0": {}, "inet:127.0.0.1:65536": {},
		"inet:11332@localhost": {}, "inet6:[::1]:8891": {}, "tcp:127.0.0.1:11332": {}, "local:/run/x": {}, "/run/x": {}, "inet:::1:8891": {}, "INET:127.0.0.1:1": {},
	} {
		network, address, err := parseMilter(text)
		if want[0] == "" {
			if err == nil || asFlaw(err).hint == "" {
				t.Errorf("%q: got %s %s, %v, want an error with a hint", text, network, address, err)
			}
			continue
		}
		if err != nil || network != want[0] || address != want[1] {
			t.Errorf("%q: got %s %s, %v", text, network, address, err)
		}
	}
}

func TestCheckWebhook(t *testing.T) {
	for text, want := range map[string]bool{
		"https://alerts.example.com": true, "https://alerts.example.com:8443/a/b?c=d": true, "https://192.0.2.7/": true, "https://[2001:db8::7]/": true,
		"http://127.0.0.1:9093/": true, "http://[::1]/": true, "http://localhost/": true, "HTTPS://alerts.example.com/": true,
		"http://alerts.example.com/": false, "http://localhost.example.com/": false, "http://192.0.2.7/": false, "": false, "https://": false, "https:alerts.example.com": false,
		"//alerts.example.com/": false, "https://user@alerts.example.com/": false, "https://:x@alerts.example.com/": false, "https://alerts.example.com/#a": false,
		"https://alerts.example.com:0/": false, "https://alerts.example.com:x/": false, "file:///etc/passwd": false, "https://a b/": false, "https://0.0.0.0/": false,
		"https://alerts.example.com/\n": false,
	} {
		if err := checkWebhook(text); (err == nil) != want {
			t.Errorf("%q: %v, want accepted: %t", text, err, want)
		}
	}
}
