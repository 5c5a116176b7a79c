package nft

import (
	"encoding/binary"
	"errors"
	"regexp"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

// compiled is the batch that sets up a table where there is none.
func compiled(t *testing.T, r rules.Ruleset) []netlink.Message {
	t.Helper()
	b, err := newBatch()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.replace(found{}, r); err != nil {
		t.Fatal(err)
	}
	return b.messages
}

// TestBatchAsksForOneAnswer: echoes and an acknowledgement for each of many
// rules would not fit into the receive buffer.
func TestBatchAsksForOneAnswer(t *testing.T) {
	for _, r := range testRulesets(t) {
		framed := frame(7, compiled(t, r))
		asking := 0
		for i, m := range framed {
			if m.Header.Flags&netlink.Echo != 0 {
				t.Errorf("%s: message %d asks for an echo", r.Table, i)
			}
			if m.Header.Flags&netlink.Acknowledge != 0 {
				asking = i
			}
		}
		if asking != len(framed)-2 {
			t.Errorf("%s: message %d of %d asks for an answer, want the last before the end", r.Table, asking, len(framed))
		}
		if got := messageAttrs(framed[0]).number(unix.NFNL_BATCH_GENID); got != 7 {
			t.Errorf("%s: batch is for generation %d, want 7", r.Table, got)
		}
	}
}

// TestBatchSaysOwner with the lock table, and with no other.
func TestBatchSaysOwner(t *testing.T) {
	for _, r := range testRulesets(t) {
		head := messageAttrs(compiled(t, r)[0])
		if owned := head.number(unix.NFTA_TABLE_FLAGS) == tableOwned; owned != r.Owned {
			t.Errorf("table %s is sent as owned: %t", r.Table, owned)
		}
	}
}

func TestBatchHasEverything(t *testing.T) {
	for _, r := range testRulesets(t) {
		kinds := make(map[int]int)
		for _, m := range compiled(t, r) {
			kinds[kind(m)]++
		}
		want := map[int]int{unix.NFT_MSG_NEWTABLE: 1, unix.NFT_MSG_NEWOBJ: len(r.Counters),
			unix.NFT_MSG_NEWSET: len(r.Sets), unix.NFT_MSG_NEWCHAIN: len(r.Chains)}
		if r.Closing {
			want[unix.NFT_MSG_NEWOBJ]++
		}
		for _, c := range r.Chains {
			want[unix.NFT_MSG_NEWRULE] += len(c.Rules)
		}
		for k, n := range want {
			if kinds[k] != n {
				t.Errorf("%s: %d messages of kind %d, want %d", r.Table, kinds[k], k, n)
			}
		}
	}
}

// TestRefusalNamesTheObject, so that an administrator can tell what the kernel
// did not take.
func TestRefusalNamesTheObject(t *testing.T) {
	for _, m := range compiled(t, testRulesets(t)[0]) {
		err := refusal(unix.EOPNOTSUPP, m)
		if text := err.Error(); !errors.Is(err, unix.EOPNOTSUPP) || !nftablesRefused.MatchString(text) {
			t.Errorf("refusal of message kind %d reads %q", kind(m), text)
		}
	}
	if err := refusal(unix.ERESTART, netlink.Message{}); err != errStale {
		t.Errorf("a batch that came too late gave %v", err)
	}
}

var nftablesRefused = regexp.MustCompile(`^nftables refused a (table|counter|set|chain|rule) \([a-z0-9_]+\): operation not supported$|^nftables refused set elements \([a-z0-9]+\): `)

func FuzzSplit(f *testing.F) {
	valid, err := netlink.Message{Header: netlink.Header{Length: 20, Type: 3}, Data: []byte{1, 2, 3, 4}}.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid)
	f.Add(append(valid, valid...))
	f.Add(binary.NativeEndian.AppendUint32(nil, 0xffffffff))
	f.Fuzz(func(t *testing.T, b []byte) {
		messages, err := split(b)
		if err != nil {
			return
		}
		total := 0
		for _, m := range messages {
			total += 16 + len(m.Data)
			messageAttrs(m)
			parseBase(messageAttrs(m))
			parseSet(messageAttrs(m))
		}
		if total > align(len(b)) {
			t.Errorf("%d bytes made messages of %d", len(b), total)
		}
	})
}
