package audit

import (
	"net/netip"
	"testing"
	"time"
)

func TestText(t *testing.T) {
	at := time.Date(2026, 11, 21, 20, 59, 1, 5e6, time.UTC)
	for name, c := range map[string]struct {
		event Event
		want  string
	}{
		"transaction": {fullEvent(), "2026-11-21T20:59:01.005Z allow <shop@example.com> -> <a@example.net> <b@example.net>(550), 4096 B, relay main, " +
			"250 2.0.0 \"Ok: queued as 1234\", custody relay, possible duplicate, reason \"rule\", rule \"sites\", identity uid:0, limit \"100 messages/hour\", until 2026-01-02T04:05:06.000Z, by root, error \"none\", 12.35ms\n" +
			"    uid 0 (root), unit php8.2-fpm.service, container d4f1, pid 4711, exe /usr/bin/php8.2, from 127.0.0.1:50000, " +
			"meant for 192.0.2.7:587, listener submission, \"TLS 1.3\", auth webshop, certificate sha256:00ff, session 01J9S, txn 01J9T"},
		"null reverse-path, many recipients": {Event{Time: at, Kind: KindTransaction, Decision: "deny", ReversePath: NullReversePath,
			Recipients: []Recipient{{"a@b", 250}, {"b@b", 250}, {"c@b", 250}, {"d@b", 250}}, RcptCount: 40},
			"2026-11-21T20:59:01.005Z deny <> -> <a@b> <b@b> <c@b> and 37 more\n    uid unknown"},
		"ended early": {Event{Time: at, Kind: KindTransaction}, "2026-11-21T20:59:01.005Z transaction - -> nobody\n    uid unknown"},
		"delivery": {Event{Time: at, Kind: KindDelivery, Attempt: 3, ReversePath: "a@b", Recipients: []Recipient{{"c@d", 450}}, Relay: "main",
			RelayReply: "450 4.2.0 later", Custody: CustodySpool, PossibleDuplicate: true, Next: at.Add(time.Minute)},
			"2026-11-21T20:59:01.005Z delivery 3 <a@b> -> <c@d>(450), relay main, \"450 4.2.0 later\", custody spool, possible duplicate, " +
				"next try 2026-11-21T21:00:01.005Z\n    uid unknown"},
		"attempts": {Event{Time: at, Kind: KindAttempt, Outcome: OutcomeBlocked, Count: 12,
			Destination: netip.MustParseAddrPort("[2001:db8::1]:25"), PeerUID: KnownUID(0), PeerUser: "root"},
			"2026-11-21T20:59:01.005Z blocked 12 attempts to [2001:db8::1]:25\n    uid 0 (root)"},
		"drift": {Event{Time: at, Kind: KindDrift, Outcome: OutcomeRestored, Reason: "table is gone", PeerPID: 7, PeerExe: "/usr/sbin/nft"},
			"2026-11-21T20:59:01.005Z drift, restored, reason \"table is gone\"\n    pid 7, exe /usr/sbin/nft"},
		"suspension": {Event{Time: at, Kind: KindSuspension, Outcome: OutcomeSuspended, Identity: "uid:33", Reason: "spam", By: "uid 0"},
			"2026-11-21T20:59:01.005Z suspension, suspended, reason \"spam\", identity uid:33, by \"uid 0\""},
		"hostile": {Event{Time: at, Kind: KindSession, PeerExe: "/tmp/a b\x1b[2J", AuthID: "x\ny\u202e", Error: "\"\r\n\u009b1m", PeerUser: "<r>"},
			"2026-11-21T20:59:01.005Z session, error \"\\\"\\r\\n\\u009b1m\"\n    uid unknown, exe \"/tmp/a b\\x1b[2J\", auth \"x\\ny\\u202e\""},
	} {
		if got := Text(c.event); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, c.want)
		}
	}
}
