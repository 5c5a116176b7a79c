package rules

import "fmt"

// New returns the ruleset of the plain table for the options.
func New(o Options) (Ruleset, error) {
	if err := o.validate(); err != nil {
		return Ruleset{}, fmt.Errorf("making the ruleset: %w", err)
	}
	if o.Mode == Observe {
		return observe(o), nil
	}
	r := Ruleset{
		Table:    Table,
		Counters: append(blockCounters(o), allowCounters(o)...),
		Closing:  o.setsTimeout(),
		Sets:     append(decidingSets(o), recordSets()...),
		Chains:   blockChains(o, priorityNAT, priorityFilter),
	}
	r.Chains = append(r.Chains, recordChains()...)
	noteAnswers(o, r.Chains)
	return report(r), nil
}

// NewLock returns the ruleset of the lock table: the block and the redirect
// once more, without counting who and logging what. It is for enforce mode
// only. The redirect is there so that an open redirected session keeps its
// address translation, and its life, when the plain table is flushed.
func NewLock(o Options) (Ruleset, error) {
	if err := o.validate(); err != nil {
		return Ruleset{}, fmt.Errorf("making the lock ruleset: %w", err)
	}
	if o.Mode != Enforce {
		return Ruleset{}, fmt.Errorf("making the lock ruleset: %s mode has no lock", o.Mode)
	}
	return Ruleset{
		Table:    LockTable,
		Owned:    true,
		Counters: blockCounters(o),
		Closing:  o.setsTimeout(),
		Sets:     decidingSets(o),
		Chains:   blockChains(o, priorityNATLock, priorityFilterLock),
	}, nil
}

// observe sees what enforce would stop, without a verdict and without
// connection tracking: opening packets are enough to count attempts.
func observe(o Options) Ruleset {
	sets := []Set{portSet(SetMail, portElements(mailPorts()))}
	sets = append(append(append(sets, relaySets(o)...), allowSets(o)...), recordSets()...)
	filtering := filterPassage(true)
	outgoing := append(leaveLocalAlone(o), Rule{Handshake{NotSYN}, Verdict{Action: Return}})
	outgoing = append(append(outgoing, o.jumpAllowed(filtering)...), judge(chainToRelay, chainRecordOut)...)
	forwarded := append(leaveInsideAlone(o), Rule{Handshake{NotSYN}, Verdict{Action: Return}})
	forwarded = append(forwarded, judge(chainRecordFwd, chainRecordFwd)...)
	r := Ruleset{
		Table:    Table,
		Counters: append([]string{CounterOut, CounterForward}, allowCounters(o)...),
		Sets:     sets,
		Chains: []Chain{
			{Name: chainRecordOut},
			{Name: chainRecordFwd},
			{Name: chainToRelay, Rules: []Rule{
				{Is{Field: SKUID, Value: o.ProxyUID}, Verdict{Action: Return}},
				{Verdict{Goto, chainRecordOut}},
			}},
			{Name: chainOutgoing, Rules: outgoing},
			{Name: chainForwarded, Rules: forwarded},
			entry(chainFilterOut, Base{Type: "filter", Hook: "output", Priority: priorityFilter}, SetPorts, chainOutgoing),
			entry(chainFilterFwd, Base{Type: "filter", Hook: "forward", Priority: priorityFilter}, SetPorts, chainForwarded),
		},
	}
	r.Chains = append(r.Chains, filtering.chains(o)...)
	r.Chains[0].Rules = append(recordRules(chainCountOut, PrefixOut), Rule{Count{CounterOut}})
	r.Chains[1].Rules = append(recordRules(chainCountFwd, PrefixForward), Rule{Count{CounterForward}})
	r.Chains = append(r.Chains, recordChains()...)
	return r
}

// report makes the refusing chains of the plain table record what they refuse.
func report(r Ruleset) Ruleset {
	for i, c := range r.Chains {
		switch c.Name {
		case chainRefuseOut:
			r.Chains[i].Rules = append(recordRules(chainCountOut, PrefixOut), c.Rules...)
		case chainRefuseFwd:
			r.Chains[i].Rules = append(recordRules(chainCountFwd, PrefixForward), c.Rules...)
		}
	}
	return r
}
