package config

import "time"

func policySection(p *Policy) section {
	return section{
		name: "policy",
		doc: "Who may send what, and how much. Without any rule, every proven local identity and every account may send. " +
			"Unknown identities may never send.",
		fields: []field{
			{
				name: "default",
				binding: enum[Result]{&p.Default, []option{
					{word: "deny", doc: "it may not send"},
					{word: "allow", doc: "it may send, if it is proven or an account"},
					{word: "defer", doc: "it is told to try again later"},
					{word: "hold", doc: "its messages are held until a person releases them, if it is proven or an account"},
				}},
				doc: "The decision for an identity that no rule matches.",
			},
			{
				name:    "limits",
				binding: limits(&p.Limits),
				doc: "How much each identity may send, unless its rule has limits of its own: messages, recipients, new-recipients (the first within 30 days) or a size, " +
					"in any window of a second, minute, hour, day, week, month (30 days) or a duration. There must be room in all of them; [] is no limit.",
			}, {
				name:    "ladder",
				binding: ladder(&p.Ladder),
				doc: "What happens near a limit and beyond it, unless the rule has a ladder of its own: \"slow\" delays replies, \"defer\" refuses with 450 until there is room, " +
					"\"hold\" accepts and holds, \"suspend\" stops the identity. The percentage is of the limit that is used most, and beyond 100 counts what was refused for it. The highest rung that was passed applies.",
			}, {
				name:    "suspend_for",
				binding: durationOrNone(&p.SuspendFor, time.Minute, 365*day, "12h"),
				doc:     "How long the rung \"suspend\" lasts. By default until `smtpwall resume`.",
				example: `"12h"`,
			},
		},
		sections: []section{budgetsSection(&p.Budgets), breakersSection(&p.Breakers), ruleSection()},
	}
}

func budgetsSection(b *Budgets) section {
	var fields []field
	for _, scope := range b.scopes() {
		fields = append(fields, field{name: scope.name, binding: limits(scope.limits), doc: scope.doc, example: scope.example})
	}
	return section{
		name:   "policy.budgets",
		doc:    "Limits above those of one identity, none by default. All that apply must have room, and a transaction that is refused takes nothing from any.",
		fields: fields,
	}
}

// scope is one kind of budget.
type scope struct {
	name    string
	limits  *[]Limit
	doc     string
	example string
}

func (b *Budgets) scopes() []scope {
	return []scope{
		{"host", &b.Host, "Of all identities together.", `["5000 messages/day"]`},
		{"unit", &b.Unit, "Of each systemd unit. Login sessions are none.", ""},
		{"container", &b.Container, "Of each container.", ""},
		{"user", &b.User, "Of each user, outside containers.", ""},
		{"account", &b.Account, "Of each account.", ""},
		{"sender", &b.Sender, "Of each reverse-path that an identity uses.", ""},
	}
}

func breakersSection(b *Breakers) section {
	const most = 1_000_000
	least := func(b *Breaker, most int64) field {
		return field{name: "least", binding: count(&b.Least, 1, most), doc: "The count below which it never trips."}
	}
	return section{
		name: "policy.breakers",
		doc:  "Marks of an identity that was broken into. A breaker that trips says why, and with \"raise\" the identity's ladder begins one rung higher for a while, whatever it has sent.",
		fields: []field{
			breaker("refused", "Many recipients that relays refuse for good.", &b.Refused, field{
				name: "share", binding: share(&b.Refused.Share), doc: "The part of all recipients that must be refused, where there are as many as least."}, least(&b.Refused, most)),
			breaker("senders", "More reverse-paths than least; those that differ in digits, or behind + or =, count once.", &b.Senders, least(&b.Senders, mostSenders)),
			breaker("identical", "One body for more recipients than least. A newsletter is that, too.", &b.Identical, least(&b.Identical, most)),
			breaker("burst", "Far more recipients than the identity has in other windows.", &b.Burst, field{
				name: "times", binding: count(&b.Burst.Times, 2, 1000), doc: "How many times as many as usual."}, least(&b.Burst, most)),
		},
	}
}

// mostSenders is how many reverse-paths of an identity a breaker tells apart.
const mostSenders = 4096

// breaker is the key of one breaker; some of its own keys are those of all.
func breaker(name, doc string, b *Breaker, own ...field) field {
	fields := []field{{
		name: "action",
		binding: enum[BreakerAction]{&b.Action, []option{
			{word: "off", doc: "it does not watch"},
			{word: "report", doc: "an event and an alert"},
			{word: "raise", doc: "these, and a higher rung"},
		}},
		doc: "What it does.",
	}}
	fields = append(fields, own...)
	fields = append(fields,
		field{name: "window", binding: duration(&b.Window, time.Minute, 30*day), doc: "In which it counts."},
		field{name: "for", binding: duration(&b.For, time.Minute, 30*day), doc: "How long the rung stays higher. Until then it does not trip again."})
	all := group{fields, "a table", ""}
	all.sample = all.inline()
	return field{name: name, binding: all, doc: doc, example: all.sample}
}

func ruleSection() section {
	specimen := defaultRule()
	return section{
		name:   "policy.rule",
		shape:  repeated,
		doc:    "One rule. The first whose match holds decides, so the order of the file matters.",
		fields: ruleFields(&specimen),
		open: func(d *decoder, _ string, at ref) []field {
			rule := defaultRule()
			rule.LimitsStated, rule.LadderStated = at.has("limits"), at.has("ladder")
			d.config.Policy.Rules = append(d.config.Policy.Rules, rule)
			d.rules = append(d.rules, at)
			return ruleFields(&d.config.Policy.Rules[len(d.config.Policy.Rules)-1])
		},
	}
}

func ruleFields(r *Rule) []field {
	return []field{
		{
			name:    "name",
			binding: text(&r.Name, "a name", "sites", checkName),
			doc:     "The rule's name, which replies and events tell.",
			example: `"sites"`,
		}, {
			name:    "match",
			binding: group{matchFields(&r.Match), "a table", `{ user = ["www-data"] }`},
			doc:     "Whom the rule is for. All keys that are given must hold, and of each list one element. In a container a uid says nothing about the host's users: user, uid and group allow what is in one only together with unit or container.",
			example: `{ user = ["www-data", "site-*"], unit = ["php*-fpm.service"] }`,
		}, {
			name:    "senders",
			binding: texts(&r.Senders, "a pattern", "*@example.com", checkSenderPattern),
			doc:     "Patterns that the reverse-path must match, with * for any characters and ? for one; \"<>\" is the null reverse-path. By default any.",
			example: `["*@example.com"]`,
		}, {
			name: "header_from",
			binding: enum[HeaderFrom]{&r.HeaderFrom, []option{
				{word: "senders", doc: "each address in it must match senders"},
				{word: "any", doc: "it may hold anything"},
			}},
			doc: "What the From header field may hold.",
		}, {
			name:    "recipients",
			binding: texts(&r.Recipients, "a pattern", "*@example.net", checkAddressPattern),
			doc:     "Patterns that each recipient must match. By default any.",
			example: `["*"]`,
		}, {
			name: "decision",
			binding: enum[Result]{&r.Decision, []option{
				{word: "allow", doc: "it may send, within senders, header_from and recipients"},
				{word: "deny", doc: "it may not send"},
				{word: "defer", doc: "it is told to try again later, with 450, if it might send"},
				{word: "hold", doc: "what it might send is accepted and held until a person releases it"},
			}},
			doc:     "What the rule decides.",
			example: `"allow"`,
		}, {
			name:    "relay",
			binding: text(&r.Relay, "a relay's name", "main", checkName),
			doc:     "The relay for these messages. By default the relays of [delivery], in their order.",
			example: `"main"`,
		},
		{
			name:    "limits",
			binding: limits(&r.Limits),
			doc:     "How much each identity that the rule decides about may send. By default the limits of [policy]; [] is no limit.",
			example: `["100 messages/hour", "500 recipients/day", "50 new-recipients/day"]`,
		}, {
			name:    "ladder",
			binding: ladder(&r.Ladder),
			doc:     "What happens near these limits and beyond them. By default the ladder of [policy].",
			example: `["slow at 80%", "defer at 100%", "suspend at 400%"]`,
		},
	}
}

const matchRemedy = "match by user, uid, group, unit, container, account or listener"

func matchFields(m *Match) []field {
	return []field{
		{
			name:    "user",
			binding: texts(&m.User, "a pattern", "www-data", checkPattern),
			doc:     "Patterns for the name of the user that the kernel gives for the socket, with * for any characters and ? for one.",
		}, {
			name:    "uid",
			binding: list[string]{&m.UID, true, "a number", "33", parseUID, func(uid string) string { return uid }},
			doc:     "Numbers of users.",
		}, {
			name:    "group",
			binding: texts(&m.Group, "a pattern", "www-data", checkPattern),
			doc:     "Patterns for the names of that user's groups.",
		}, {
			name:    "unit",
			binding: texts(&m.Unit, "a pattern", "php*-fpm.service", checkPattern),
			doc:     "Patterns for the systemd unit that the socket was made in.",
		}, {
			name:    "container",
			binding: texts(&m.Container, "a pattern", "d4f1*", checkPattern),
			doc:     "Patterns for the id of the container that the socket was made in: 64 hexadecimal digits for most, a name for LXC and systemd-nspawn.",
		}, {
			name:    "account",
			binding: texts(&m.Account, "a pattern", "webshop", checkPattern),
			doc:     "Patterns for the account that the client logged in as.",
		}, {
			name:    "listener",
			binding: list[ListenerRole]{&m.Listener, false, "a listener", `"submission"`, parseRole, func(r ListenerRole) string { return quote(string(r)) }},
			doc:     "How the session reached us: submission, submissions, alternate, intercepted or socket. It says nothing about who sends, so an allowing rule needs one of the others too.",
		},
		{name: "relay_port", binding: later{matchRemedy}},
		{name: "grade", binding: later{matchRemedy}},
	}
}

// roles are what match.listener may name.
var roles = []string{string(RoleSubmission), string(RoleSubmissions), string(RoleAlternate), string(RoleIntercepted), string(RoleSocket)}

// parseRole reads the name of a listener.
func parseRole(text string) (ListenerRole, error) {
	for _, role := range roles {
		if role == text {
			return ListenerRole(text), nil
		}
	}
	return "", flaw{"unknown listener " + quote(text), meant(text, roles, "use "+alternatives(roles))}
}
