package nft

import (
	"context"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

// found is a table as the kernel has it.
type found struct {
	rules.Ruleset
	owner uint32 // port of the owning socket; 0 if nobody owns it
}

// reader reads tables out of the kernel.
type reader struct {
	sock  *socket
	known *catalogue
	at    uint32 // the generation that is read
}

// dump asks for all objects of a kind in a table.
func (r reader) dump(ctx context.Context, kind int, filter ...netlink.Attribute) ([]netlink.Message, error) {
	return r.sock.dump(ctx, netlink.Message{
		Header: netlink.Header{Type: messageType(kind), Flags: netlink.Dump},
		Data:   body(familyInet, 0, filter...),
	})
}

// generation is a number that changes with each change of any table.
func (r reader) generation(ctx context.Context) (uint32, error) {
	answer, err := r.sock.dump(ctx, netlink.Message{
		Header: netlink.Header{Type: messageType(unix.NFT_MSG_GETGEN)},
		Data:   body(unix.AF_UNSPEC, 0),
	})
	if err != nil {
		return 0, fmt.Errorf("reading the generation of the ruleset: %w", err)
	}
	for _, m := range answer {
		return messageAttrs(m).number(unix.NFTA_GEN_ID), nil
	}
	return 0, fmt.Errorf("reading the generation of the ruleset: no answer")
}

// table reads one table. A table that is not there is found without a name.
func (r reader) table(ctx context.Context, like rules.Ruleset) (found, error) {
	f, err := r.head(ctx, like.Table)
	if err != nil || f.Table == "" {
		return f, err
	}
	if err := r.objects(ctx, &f); err != nil {
		return found{}, err
	}
	if err := r.sets(ctx, &f); err != nil {
		return found{}, err
	}
	if err := r.chains(ctx, &f); err != nil {
		return found{}, err
	}
	return f, r.rules(ctx, &f, like)
}

func (r reader) head(ctx context.Context, name string) (found, error) {
	tables, err := r.dump(ctx, unix.NFT_MSG_GETTABLE)
	if err != nil {
		return found{}, fmt.Errorf("listing tables: %w", err)
	}
	for _, m := range tables {
		a := messageAttrs(m)
		if a.text(unix.NFTA_TABLE_NAME) != name || m.Data[0] != familyInet {
			continue
		}
		flags := a.number(unix.NFTA_TABLE_FLAGS)
		f := found{owner: a.number(attrTableOwner)}
		f.Table, f.Owned = name, flags&tableOwned != 0
		if rest := flags &^ (tableOwned | tableDormant); rest != 0 {
			f.Others = append(f.Others, fmt.Sprintf("flags %#x", rest))
		}
		if flags&tableDormant != 0 {
			f.Others = append(f.Others, "flag dormant")
		}
		return f, nil
	}
	return found{}, nil
}

func (r reader) objects(ctx context.Context, f *found) error {
	objects, err := r.dump(ctx, unix.NFT_MSG_GETOBJ, textAttr(unix.NFTA_OBJ_TABLE, f.Table))
	if err != nil {
		return fmt.Errorf("listing counters: %w", err)
	}
	for _, m := range objects {
		a := messageAttrs(m)
		switch {
		case a.number(unix.NFTA_OBJ_TYPE) == unix.NFT_OBJECT_COUNTER:
			f.Counters = append(f.Counters, a.text(unix.NFTA_OBJ_NAME))
		case isClosing(a):
			f.Closing = true
		default:
			f.Others = append(f.Others, "object "+a.text(unix.NFTA_OBJ_NAME))
		}
	}
	flows, err := r.dump(ctx, unix.NFT_MSG_GETFLOWTABLE, textAttr(1, f.Table))
	if err != nil {
		return fmt.Errorf("listing flow tables: %w", err)
	}
	for _, m := range flows {
		f.Others = append(f.Others, "flowtable "+messageAttrs(m).text(2))
	}
	return nil
}

func (r reader) sets(ctx context.Context, f *found) error {
	sets, err := r.dump(ctx, unix.NFT_MSG_GETSET, textAttr(unix.NFTA_SET_TABLE, f.Table))
	if err != nil {
		return fmt.Errorf("listing sets: %w", err)
	}
	for _, m := range sets {
		a := messageAttrs(m)
		if flags := a.number(unix.NFTA_SET_FLAGS); flags&unix.NFT_SET_ANONYMOUS != 0 {
			continue // part of a foreign rule, and gone with it
		}
		s := parseSet(a)
		if !s.Dynamic {
			if s.Elements, err = r.elements(ctx, f.Table, s); err != nil {
				return err
			}
		}
		f.Sets = append(f.Sets, s)
	}
	return nil
}

// parseSet reads the declaration of a set. One that is unlike any of ours (a
// map, a set of ranges of addresses) comes out without a key, which equals none.
func parseSet(a attrs) rules.Set {
	const dynamic = unix.NFT_SET_EVAL | unix.NFT_SET_TIMEOUT
	s := rules.Set{
		Name:    a.text(unix.NFTA_SET_NAME),
		Timeout: time.Duration(a.number64(unix.NFTA_SET_TIMEOUT)) * time.Millisecond,
		Size:    int(a.nested(unix.NFTA_SET_DESC).number(unix.NFTA_SET_DESC_SIZE)),
	}
	s.Counter = a.nested(attrSetExpr).text(unix.NFTA_EXPR_NAME) == "counter"
	switch a.number(unix.NFTA_SET_FLAGS) {
	case 0:
		s.Key = keyOf(a.number(unix.NFTA_SET_KEY_TYPE))
	case unix.NFT_SET_INTERVAL:
		s.Ranges = true
		if s.Key = keyOf(a.number(unix.NFTA_SET_KEY_TYPE)); len(s.Key) != 1 || s.Key[0] != rules.SKUID {
			s.Key = nil
		}
	case dynamic:
		s.Dynamic = true
		s.Key = keyOf(a.number(unix.NFTA_SET_KEY_TYPE))
	}
	if a.has(attrSetExprs) {
		s.Key = nil
	}
	return s
}

// Attributes of sets that x/sys does not name: the statement, or several, that
// each element has.
const (
	attrSetExpr  = 17
	attrSetExprs = 18
)

func (r reader) elements(ctx context.Context, table string, set rules.Set) ([]rules.Element, error) {
	answer, err := r.dump(ctx, unix.NFT_MSG_GETSETELEM,
		textAttr(unix.NFTA_SET_ELEM_LIST_TABLE, table), textAttr(unix.NFTA_SET_ELEM_LIST_SET, set.Name))
	if err != nil {
		return nil, fmt.Errorf("listing set %s: %w", set.Name, err)
	}
	var out []rules.Element
	var bounds []bound
	for _, m := range answer {
		for _, e := range elements(messageAttrs(m)[unix.NFTA_SET_ELEM_LIST_ELEMENTS]) {
			a := readAttrs(e)
			key := a.nested(unix.NFTA_SET_ELEM_KEY)[unix.NFTA_DATA_VALUE]
			if set.Ranges {
				bounds = append(bounds, bound{key, a.number(unix.NFTA_SET_ELEM_FLAGS)&unix.NFT_SET_ELEM_INTERVAL_END != 0})
			} else {
				out = append(out, decodeElement(set.Key, key))
			}
		}
	}
	return append(out, decodeRanges(bounds)...), nil
}

func (r reader) chains(ctx context.Context, f *found) error {
	chains, err := r.dump(ctx, unix.NFT_MSG_GETCHAIN)
	if err != nil {
		return fmt.Errorf("listing chains: %w", err)
	}
	for _, m := range chains {
		a := messageAttrs(m)
		if m.Data[0] == familyInet && a.text(unix.NFTA_CHAIN_TABLE) == f.Table {
			f.Chains = append(f.Chains, rules.Chain{Name: a.text(unix.NFTA_CHAIN_NAME), Base: parseBase(a)})
		}
	}
	return nil
}

func parseBase(a attrs) *rules.Base {
	if !a.has(unix.NFTA_CHAIN_HOOK) {
		return nil
	}
	hook := a.nested(unix.NFTA_CHAIN_HOOK)
	b := &rules.Base{
		Type:     a.text(unix.NFTA_CHAIN_TYPE),
		Hook:     fmt.Sprintf("hook %d", hook.number(unix.NFTA_HOOK_HOOKNUM)),
		Priority: int(int32(hook.number(unix.NFTA_HOOK_PRIORITY))),
		Policy:   "drop",
	}
	if name, ok := hookNames()[hook.number(unix.NFTA_HOOK_HOOKNUM)]; ok {
		b.Hook = name
	}
	if a.number(unix.NFTA_CHAIN_POLICY) == 1 { // NF_ACCEPT
		b.Policy = "accept"
	}
	return b
}

func hookNames() map[uint32]string {
	return map[uint32]string{
		unix.NF_INET_LOCAL_IN: "input", unix.NF_INET_LOCAL_OUT: "output",
		unix.NF_INET_FORWARD: "forward", unix.NF_INET_POST_ROUTING: "postrouting",
	}
}

// rules reads the rules of all chains. Those that like has too, or that were
// wanted before, are given as ours, whichever chain they are in.
func (r reader) rules(ctx context.Context, f *found, like rules.Ruleset) error {
	r.known.learn(like)
	answer, err := r.dump(ctx, unix.NFT_MSG_GETRULE, textAttr(unix.NFTA_RULE_TABLE, f.Table))
	if err != nil {
		return fmt.Errorf("listing rules: %w", err)
	}
	byChain := make(map[string][]rules.Rule)
	for _, m := range answer {
		a := messageAttrs(m)
		chain := a.text(unix.NFTA_RULE_CHAIN)
		byChain[chain] = append(byChain[chain], r.known.name(a[unix.NFTA_RULE_EXPRESSIONS]))
	}
	for i, c := range f.Chains {
		f.Chains[i].Rules = byChain[c.Name]
	}
	return nil
}
