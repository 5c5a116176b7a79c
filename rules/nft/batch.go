package nft

import (
	"fmt"
	"io"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

// elementsPerMessage keeps a message's list of elements under 64 KiB, beyond
// which it would be cut off without an error.
const elementsPerMessage = 1000

// batch collects the messages of one transaction. google/nftables makes them;
// what it would send is caught.
type batch struct {
	messages []netlink.Message
	lib      *nftables.Conn
}

func newBatch() (*batch, error) {
	b := &batch{}
	lib, err := nftables.New(nftables.WithTestDial(func(sent []netlink.Message) ([]netlink.Message, error) {
		if len(sent) > 2 { // between the begin and the end of its own batch
			b.messages = append(b.messages, sent[1:len(sent)-1]...)
		}
		return nil, io.EOF
	}))
	if err != nil {
		return nil, fmt.Errorf("preparing a batch: %w", err)
	}
	b.lib = lib
	return b, nil
}

// compile moves what the library has queued to the end of the batch.
func (b *batch) compile() error {
	if err := b.lib.Flush(); err != nil {
		return fmt.Errorf("compiling rules: %w", err)
	}
	return nil
}

// replace makes the kernel's table equal to want, given what it is now. What is
// the same stays, above all what counters and dynamic sets have gathered.
func (b *batch) replace(have found, want rules.Ruleset) error {
	if have.Table != "" && (have.Owned != want.Owned || len(have.Others) > 0) {
		b.deleteTable(have.Table)
		have = found{}
	}
	b.addTable(want)
	if want.Closing && !have.Closing {
		b.addClosing(want.Table)
	}
	if have.Table != "" {
		b.lib.FlushTable(libTable(want))
		b.deleteOthers(have.Ruleset, want)
	}
	if err := b.addObjects(have.Ruleset, want); err != nil {
		return err
	}
	for _, c := range want.Chains {
		b.lib.AddChain(libChain(want, c))
	}
	for _, c := range want.Chains {
		for _, r := range c.Rules {
			b.lib.AddRule(&nftables.Rule{Table: libTable(want), Chain: libChain(want, c), Exprs: compileRule(r)})
		}
	}
	return b.compile()
}

// refill changes elements of static sets only. If a set is missing, it replaces
// the table.
func (b *batch) refill(have found, want rules.Ruleset) error {
	for _, w := range want.Sets {
		if h, ok := have.Set(w.Name); !ok || !h.SameShape(w) {
			return b.replace(have, want)
		}
	}
	for _, w := range want.Sets {
		h, _ := have.Set(w.Name)
		if err := b.fill(want, h, w); err != nil {
			return err
		}
	}
	return b.compile()
}

// addTable is not left to the library, which knows no flags. Each mention of an
// owned table must say that it is one.
func (b *batch) addTable(want rules.Ruleset) {
	flags := uint32(0)
	if want.Owned {
		flags = tableOwned
	}
	b.messages = append(b.messages, netlink.Message{
		Header: netlink.Header{Type: messageType(unix.NFT_MSG_NEWTABLE), Flags: netlink.Request | netlink.Create},
		Data: body(familyInet, 0,
			textAttr(unix.NFTA_TABLE_NAME, want.Table), numberAttr(unix.NFTA_TABLE_FLAGS, flags)),
	})
}

func (b *batch) deleteTable(name string) {
	b.messages = append(b.messages, netlink.Message{
		Header: netlink.Header{Type: messageType(unix.NFT_MSG_DELTABLE), Flags: netlink.Request},
		Data:   body(familyInet, 0, textAttr(unix.NFTA_TABLE_NAME, name)),
	})
}

// deleteOthers removes what is not wanted, or not in this shape. All rules are
// gone by then, so nothing is in use.
func (b *batch) deleteOthers(have, want rules.Ruleset) {
	table := libTable(want)
	for _, h := range have.Chains {
		if w, ok := want.Chain(h.Name); !ok || !w.SameShape(h) {
			b.lib.DelChain(&nftables.Chain{Table: table, Name: h.Name})
		}
	}
	for _, h := range have.Sets {
		if w, ok := want.Set(h.Name); !ok || !w.SameShape(h) {
			b.lib.DelSet(&nftables.Set{Table: table, Name: h.Name})
		}
	}
	if have.Closing && !want.Closing {
		b.lib.DeleteObject(libClosing(want))
	}
	for _, h := range have.Counters {
		if !slices.Contains(want.Counters, h) {
			b.lib.DeleteObject(libCounter(want, h))
		}
	}
}

func (b *batch) addObjects(have, want rules.Ruleset) error {
	for _, c := range want.Counters {
		if !slices.Contains(have.Counters, c) {
			b.lib.AddObj(libCounter(want, c))
		}
	}
	for _, w := range want.Sets {
		h, ok := have.Set(w.Name)
		if !ok || !h.SameShape(w) {
			h = rules.Set{}
			if err := b.lib.AddSet(libSet(want, w), nil); err != nil {
				return fmt.Errorf("compiling set %s: %w", w.Name, err)
			}
		}
		if err := b.fill(want, h, w); err != nil {
			return err
		}
	}
	return nil
}

// fill adds and deletes elements of a static set.
func (b *batch) fill(r rules.Ruleset, have, want rules.Set) error {
	if want.Dynamic {
		return nil
	}
	set := libSet(r, want)
	// It may have elements that cannot be deleted by a key of ours, and ranges may
	// overlap with those that come in their place.
	if slices.Contains(have.Elements, rules.Element{}) || want.Ranges && !slices.Equal(have.Elements, want.Elements) {
		if len(have.Elements) > 0 {
			b.lib.FlushSet(set)
		}
		have.Elements = nil
	}
	for chunk := range slices.Chunk(libElements(want.Key, have.Elements, want.Elements), elementsPerMessage) {
		if err := b.lib.SetDeleteElements(set, chunk); err != nil {
			return fmt.Errorf("compiling elements of set %s: %w", want.Name, err)
		}
	}
	for chunk := range slices.Chunk(libElements(want.Key, want.Elements, have.Elements), elementsPerMessage) {
		if err := b.lib.SetAddElements(set, chunk); err != nil {
			return fmt.Errorf("compiling elements of set %s: %w", want.Name, err)
		}
	}
	return nil
}

// libElements returns those elements that the other set has not.
func libElements(key []rules.Field, elements, other []rules.Element) []nftables.SetElement {
	known := make(map[rules.Element]bool, len(other))
	for _, e := range other {
		known[e] = true
	}
	var out []nftables.SetElement
	for _, e := range elements {
		switch {
		case known[e]:
		case e.Last > 0:
			out = append(out, encodeRange(e)...)
		default:
			out = append(out, nftables.SetElement{Key: encodeElement(key, e)})
		}
	}
	return out
}

func libTable(r rules.Ruleset) *nftables.Table {
	return &nftables.Table{Name: r.Table, Family: nftables.TableFamilyINet}
}

func libCounter(r rules.Ruleset, name string) *nftables.NamedObj {
	return &nftables.NamedObj{Table: libTable(r), Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}}
}

func libSet(r rules.Ruleset, s rules.Set) *nftables.Set {
	order := binaryutil.ByteOrder(nil)
	if isID(s.Key) && !s.Dynamic {
		order = binaryutil.NativeEndian // so that nft lists the numbers that they are
	}
	return &nftables.Set{
		KeyByteOrder: order,

		Table:      libTable(r),
		ID:         1, // sets are looked up by name; the library counts in a global otherwise
		Name:       s.Name,
		KeyType:    keyType(s.Key),
		Dynamic:    s.Dynamic,
		Interval:   s.Ranges,
		HasTimeout: s.Timeout > 0,
		Timeout:    s.Timeout,
		Counter:    s.Counter,
		Size:       uint32(s.Size),
	}
}

func libChain(r rules.Ruleset, c rules.Chain) *nftables.Chain {
	chain := &nftables.Chain{Table: libTable(r), Name: c.Name}
	if c.Base == nil {
		return chain
	}
	policy := nftables.ChainPolicyAccept
	chain.Type = nftables.ChainType(c.Base.Type)
	chain.Priority = nftables.ChainPriorityRef(nftables.ChainPriority(c.Base.Priority))
	chain.Policy = &policy
	for number, name := range hookNames() {
		if name == c.Base.Hook {
			chain.Hooknum = nftables.ChainHookRef(nftables.ChainHook(number))
		}
	}
	return chain
}
