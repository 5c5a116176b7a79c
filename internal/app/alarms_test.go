package app

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// What an alert says of a blocked connection is one line, and its fields are the
// log's.
func TestAttemptSentence(t *testing.T) {
	event := &audit.Event{
		Kind: audit.KindAttempt, Outcome: audit.OutcomeBlocked, Destination: netip.MustParseAddrPort("192.0.2.9:25"),
		PeerUID: audit.KnownUID(1000033), PeerUser: "shop\n", PeerUnit: "php.service", Count: 3,
	}
	if got, want := attemptSentence(event), `a direct connection to 192.0.2.9:25 blocked, user "shop\n", unit "php.service"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	fields := fieldsOf(event)
	for key, want := range map[string]string{"peer_uid": "1000033", "peer_user": "shop\n", "destination": "192.0.2.9:25", "count": "3"} {
		if fields[key] != want {
			t.Errorf("%s is %q, want %q", key, fields[key], want)
		}
	}
}

// Each relay's condition is told of by itself, as the event that it is.
func TestKindOfCondition(t *testing.T) {
	for name, want := range map[string]string{
		"relay main": "relay main", "spool": "spool ", "limits": "limit ", "certificate a.example": "certificate a.example", "filter rspamd": "filter rspamd",
	} {
		if kind, part := kindOfCondition(name); strings.TrimSpace(kind+" "+part) != strings.TrimSpace(want) {
			t.Errorf("%s: %s, %s", name, kind, part)
		}
	}
}

// An alert names whoever the budgets count: the owner of a subordinate uid.
func TestSenderOf(t *testing.T) {
	owners := func(uid uint32) (uint32, bool) { return 1000, uid >= 100000 && uid < 165536 }
	for _, c := range []struct {
		event audit.Event
		want  string
	}{
		{audit.Event{PeerUID: audit.KnownUID(33)}, "uid:33"},
		{audit.Event{PeerUID: audit.KnownUID(0)}, "uid:0"},
		{audit.Event{PeerUID: audit.KnownUID(100005)}, "uid:1000"},
		{audit.Event{PeerUID: audit.KnownUID(100005), PeerContainer: "web"}, "container:web"},
		{audit.Event{Source: netip.MustParseAddrPort("192.0.2.2:0")}, "address:192.0.2.2"},
		{audit.Event{}, "unknown"},
	} {
		if got := senderOf(&c.event, owners); got != c.want {
			t.Errorf("%+v is %s, want %s", c.event, got, c.want)
		}
	}
}
