package config

import (
	"net/netip"
	"time"
)

// Default returns the configuration of an empty file: observe mode, loopback
// listeners, no relay, and a policy that lets every proven local identity and
// every account send what a small host needs.
func Default() *Config {
	return &Config{
		Mode: Observe,
		Delivery: Delivery{
			Mode:                DeliveryProxy,
			Spool:               "/var/lib/smtpwall/spool",
			SpoolMax:            1 << 30,
			SpoolMaxPerIdentity: 1 << 29,
			Expire:              5 * day, // RFC 5321 section 4.5.4.1: at least 4 to 5 days
			HoldExpire:          30 * day,
		},
		Listen: Listen{
			Submission:  loopback(587),
			Submissions: loopback(465),
			Alternate:   loopback(2525),
			Socket:      "/run/smtpwall/submit.sock",
			Admin:       "/run/smtpwall/admin.sock",
		},
		Firewall:     Firewall{Port25: Port25Reject, SubmissionPorts: SubmissionRedirect, AnyPort: AnyPortOff, DNSAnswers: DNSAnswersNote},
		Certificates: defaultCertificates(),
		Policy:       defaultPolicy(),
		Session: Session{
			MaxMessage:         50 << 20,
			MaxRecipients:      1000,
			MaxSessions:        2000,
			MaxSessionsPerPeer: 500,
			IdleTimeout:        5 * time.Minute, // RFC 5321 section 4.5.3.2.7
			DataTimeout:        10 * time.Minute,
		},
		Audit: Audit{Directory: "/var/log/smtpwall"},
		Log:   Log{Level: LevelInfo},
	}
}

// defaultCertificates needs nobody but this host. With source = "acme" alone it
// needs port 80.
func defaultCertificates() Certificates {
	return Certificates{
		Source:          SourceLocal,
		Issuers:         []Issuer{{Directory: LetsEncrypt}},
		Challenge:       ChallengeHTTP,
		HTTPPort:        80,  // RFC 8555 section 8.3
		TLSALPNPort:     443, // RFC 8737 section 3
		DNS:             DNSUpdate{Algorithm: "hmac-sha256", Propagation: 2 * time.Minute},
		MinVersion:      TLS12,
		RedirectedNames: []string{"*"},
	}
}

// defaultPolicy fits a small server: a site that is broken into is stopped
// within minutes, one that sends its orders and a newsletter is not.
func defaultPolicy() Policy {
	return Policy{
		Default: Deny,
		Limits:  []Limit{{200, Messages, time.Hour}, {2000, Recipients, day}},
		Ladder:  []Rung{{ActionSlow, 80}, {ActionDefer, 100}},
		Breakers: Breakers{
			Refused:   Breaker{Action: BreakerRaise, Share: 0.5, Least: 20, Window: time.Hour, For: time.Hour},
			Senders:   Breaker{Action: BreakerReport, Least: 20, Window: time.Hour, For: time.Hour},
			Identical: Breaker{Action: BreakerReport, Least: 200, Window: time.Hour, For: time.Hour},
			Burst:     Breaker{Action: BreakerReport, Times: 10, Least: 100, Window: 10 * time.Minute, For: time.Hour},
		},
	}
}

// defaultFilter returns a filter that says nothing.
func defaultFilter() Filter {
	return Filter{OnFailure: FilterDefer, Timeout: 30 * time.Second}
}

// defaultExpect returns an expectation that says nothing.
func defaultExpect() Expect { return Expect{Listener: RoleSubmission} }

// loopback returns both loopback addresses with port: IPv4 and IPv6 always
// behave alike.
func loopback(port uint16) []netip.AddrPort {
	return []netip.AddrPort{
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port),
		netip.AddrPortFrom(netip.IPv6Loopback(), port),
	}
}

// defaultRelay returns a relay table that says nothing but its name.
func defaultRelay(name string) Relay {
	return Relay{Name: name, Auth: AuthAuto, Connections: 50}
}

// defaultIssuer returns a fallback that says nothing.
func defaultIssuer() Issuer { return Issuer{} }

// defaultRule returns a rule that says nothing.
func defaultRule() Rule {
	return Rule{HeaderFrom: HeaderFromSenders}
}
