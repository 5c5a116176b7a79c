package app

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/policy"
)

// Question is a message that nobody sends, and who would.
type Question struct {
	Identity policy.Identity
	Listener config.ListenerRole
	From     string    // reverse-path; audit.NullReversePath is the null one; "" does not ask about it
	To       []string  // forward-paths
	Header   []byte    // the header section, as for policy.Header; nil does not ask about it
	Size     int64     // octets of the message; 0 does not ask about it
	Time     time.Time // when
	// Suspensions are those that there are; what is over by Time does not count.
	Suspensions []limit.Suspension
}

// Explanation is what policy says to a Question, and why.
type Explanation struct {
	Identity string              `json:"identity"` // key
	Listener config.ListenerRole `json:"listener"`
	Rules    []policy.Step       `json:"rules"`
	Stages   []Stage             `json:"stages"`
	// Result is what comes of the message as a whole: what the first stage that
	// denies it says, else what all stages say.
	Result     string            `json:"decision"`
	Reason     string            `json:"reason"`
	Rule       string            `json:"rule,omitzero"`
	Relay      string            `json:"relay,omitzero"`
	Suspension *limit.Suspension `json:"suspension,omitempty"`
	Budgets    []Budget          `json:"budgets"` // without their state, which only a running proxy has
	Ladder     []string          `json:"ladder"`
	Filters    []string          `json:"filters,omitempty"` // that are not asked
	Direct     []string          `json:"direct,omitempty"`  // connections of its own that the firewall leaves alone

	decided *config.Rule
}

// Stage is the decision at one point of the dialogue.
type Stage struct {
	Stage   string `json:"stage"` // Stage…
	Address string `json:"address,omitzero"`
	Result  string `json:"decision"`
	Reason  string `json:"reason"`
	Rule    string `json:"rule,omitzero"`
}

// The stages, in their order: who it is, the reverse-path, each recipient, the
// From field, and the size of the message.
const (
	StageSession = "session"
	StageMail    = "MAIL"
	StageRcpt    = "RCPT"
	StageHeader  = "header"
	StageSize    = "size"
)

// Budget is one set of limits that a message needs room in.
type Budget struct {
	Key    string   `json:"key"`
	Limits []string `json:"limits"`
}

// ReasonSuspended is the reason of whoever may send nothing at all for a while.
const ReasonSuspended = "identity suspended"

// reasonTooLarge is that of a message above session.max_message.
const reasonTooLarge = "message too large"

// Explain decides about a message as a proxy with this configuration would, as
// far as policy goes: the room in limits and the word of filters are not known
// here.
func Explain(cfg *config.Config, q Question) (Explanation, error) {
	rules, err := newPolicy(cfg.Policy)
	if err != nil {
		return Explanation{}, fmt.Errorf("%w: policy: %w", ErrConfiguration, err)
	}
	listener, keys := string(q.Listener), keysOf(SpoolIdentity(q.Identity))
	e := Explanation{
		Identity: keys.Identity, Listener: q.Listener,
		Rules: rules.Explain(q.Identity, listener), Budgets: []Budget{}, Ladder: []string{},
	}
	e.judge(rules.For(q.Identity, listener), rules.Session(q.Identity, listener), &q)
	e.decided = ruleOf(cfg, e.Stages[0].Rule)
	e.checkSize(cfg, q.Size)
	e.suspend(&q, keys)
	e.limit(cfg, &q, keys)
	for i := range cfg.Filters {
		e.Filters = append(e.Filters, cfg.Filters[i].Name)
	}
	if e.Suspension == nil { // the guard cuts off who is suspended
		e.Direct = directOf(cfg, &q)
	}
	return e, nil
}

// Decider is the rule that decided, nil if none did.
func (e *Explanation) Decider() *config.Rule { return e.decided }

// judge goes through the dialogue.
func (e *Explanation) judge(ruling policy.Ruling, session policy.Decision, q *Question) {
	e.Relay = session.Relay
	e.add(StageSession, "", session)
	if q.From != "" {
		e.add(StageMail, q.From, ruling.Sender(strings.TrimPrefix(q.From, audit.NullReversePath)))
	}
	for _, address := range q.To {
		e.add(StageRcpt, address, ruling.Recipient(address))
	}
	if q.Header != nil {
		e.add(StageHeader, fromOf(q.Header), ruling.Header(q.Header))
	}
	e.conclude()
}

func (e *Explanation) add(stage, address string, d policy.Decision) {
	e.Stages = append(e.Stages, Stage{stage, address, d.Result.String(), d.Reason, d.Rule})
}

// conclude makes one word of all stages. One rule decides at all of them, so
// they differ only where some deny.
func (e *Explanation) conclude() {
	first := e.Stages[0]
	if i := slices.IndexFunc(e.Stages, func(s Stage) bool { return s.Result == policy.Deny.String() }); i >= 0 {
		first = e.Stages[i]
	}
	e.Result, e.Reason, e.Rule = first.Result, first.Reason, first.Rule
}

// checkSize refuses what no session may send.
func (e *Explanation) checkSize(cfg *config.Config, size int64) {
	if size > cfg.Session.MaxMessage {
		e.add(StageSize, strconv.FormatInt(size, 10), policy.Decision{Result: policy.Deny, Reason: reasonTooLarge})
		e.conclude()
	}
}

// suspend puts a suspension above every rule, as a session does. One that has an
// end only defers.
func (e *Explanation) suspend(q *Question, k *proxy.Keys) {
	keys := k.Suspendable
	for i := range q.Suspensions {
		s := &q.Suspensions[i]
		over := !s.Until.IsZero() && !s.Until.After(q.Time)
		if over || !slices.Contains(keys, s.Key) {
			continue
		}
		result := policy.Deny
		if !s.Until.IsZero() {
			result = policy.Defer
		}
		e.Suspension, e.Result, e.Reason, e.Rule = s, result.String(), ReasonSuspended, ""
		if result == policy.Deny {
			return // nothing is worse
		}
	}
}

// limit says what must have room.
func (e *Explanation) limit(cfg *config.Config, q *Question, k *proxy.Keys) {
	for _, rung := range cfg.Policy.LadderFor(e.decided) {
		e.Ladder = append(e.Ladder, rung.String())
	}
	add := func(key string, limits []config.Limit) {
		if key == "" || len(limits) == 0 {
			return
		}
		b := Budget{Key: key}
		for _, l := range newLimitList(limits) { // in the words of the running proxy
			b.Limits = append(b.Limits, l.String())
		}
		e.Budgets = append(e.Budgets, b)
	}
	above := &cfg.Policy.Budgets
	add(k.Identity, cfg.Policy.LimitsFor(e.decided))
	if q.From != "" {
		add(k.Sender(strings.TrimPrefix(q.From, audit.NullReversePath)), above.Sender)
	}
	add(k.Account, above.Account)
	add(k.Container, above.Container)
	add(k.User, above.User)
	add(k.Unit, above.Unit)
	add("host", above.Host)
}

// ruleOf is the configured rule of a name.
func ruleOf(cfg *config.Config, name string) *config.Rule {
	i := slices.IndexFunc(cfg.Policy.Rules, func(r config.Rule) bool { return r.Name == name })
	if name == "" || i < 0 {
		return nil
	}
	return &cfg.Policy.Rules[i]
}

// fromOf is what the From field says, for people.
func fromOf(header []byte) string {
	addresses, err := policy.FromAddresses(header)
	if err != nil {
		return ""
	}
	return strings.Join(addresses, ", ")
}

// directOf are the destinations that an identity may dial itself at that time,
// past us.
func directOf(cfg *config.Config, q *Question) (direct []string) {
	id := &q.Identity
	if !id.Proven || id.Container != "" {
		return nil
	}
	for i := range cfg.Firewall.Allow {
		a := &cfg.Firewall.Allow[i]
		mine := a.User != "" && a.User == id.User || a.UID == strconv.FormatUint(uint64(id.UID), 10) ||
			slices.Contains(id.Groups, a.Group) || a.Unit != "" && a.Unit == id.Unit
		if !mine || !a.Until.IsZero() && !q.Time.Before(a.Until) {
			continue
		}
		to := net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
		if !a.Until.IsZero() {
			to += " until " + a.Until.UTC().Format(time.RFC3339)
		}
		direct = append(direct, to)
	}
	return direct
}
