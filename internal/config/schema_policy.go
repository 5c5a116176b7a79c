package config

const limitsRemedy = "remove it; budgets come in a later version"

func accountSection() section {
	return section{
		name:  "account",
		shape: repeated,
		doc: "A credential for peers that the kernel cannot vouch for, or who want one. Local processes need none. " +
			"At least one of password and scram is given.",
		fields: accountFields(&Account{}),
		open: func(d *decoder, _ string, at ref) []field {
			d.config.Accounts = append(d.config.Accounts, Account{})
			d.accounts = append(d.accounts, at)
			return accountFields(&d.config.Accounts[len(d.config.Accounts)-1])
		},
	}
}

func accountFields(a *Account) []field {
	return []field{
		{
			name:    "name",
			binding: text(&a.Name, "a name", "webshop", checkAccountName),
			doc:     "The name to log in with.",
			example: `"webshop"`,
		}, {
			name:    "password",
			binding: text(&a.Password, "a hash", "$argon2id$…", checkPasswordHash),
			doc:     "The hash of the password, argon2id or bcrypt, for PLAIN and LOGIN. `smtpwall account hash` makes it.",
			example: `"$argon2id$…"`,
		}, {
			name:    "scram",
			binding: text(&a.SCRAM, "a stored key", "SCRAM-SHA-256$…", checkSCRAM),
			doc:     "The stored key for SCRAM-SHA-256, as PostgreSQL writes it too.",
			example: `"SCRAM-SHA-256$…"`,
		},
	}
}

func policySection(p *Policy) section {
	return section{
		name: "policy",
		doc: "Who may send what. Without any rule, every proven local identity and every account may send. " +
			"Unknown identities may never send.",
		fields: []field{
			{
				name: "default",
				binding: enum[Result]{&p.Default, []option{
					{word: "deny", doc: "it may not send"},
					{word: "allow", doc: "it may send, if it is proven or an account"},
				}},
				doc: "The decision for an identity that no rule matches.",
			},
			{name: "limits", binding: later{limitsRemedy}},
		},
		sections: []section{ruleSection()},
	}
}

func ruleSection() section {
	specimen := defaultRule()
	return section{
		name:   "policy.rule",
		shape:  repeated,
		doc:    "One rule. The first whose match holds decides, so the order of the file matters.",
		fields: ruleFields(&specimen),
		open: func(d *decoder, _ string, at ref) []field {
			d.config.Policy.Rules = append(d.config.Policy.Rules, defaultRule())
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
			doc:     "Whom the rule is for. All keys that are given must hold, and of each list one element. In a container a uid says nothing about the host's users: user, uid and group allow what is in one only together with unit.",
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
				{word: "defer", later: true}, {word: "hold", later: true},
			}},
			doc:     "What the rule decides.",
			example: `"allow"`,
		}, {
			name:    "relay",
			binding: text(&r.Relay, "a relay's name", "main", checkName),
			doc:     "The relay for these messages. By default the relays of [delivery], in their order.",
			example: `"main"`,
		},
		{name: "limits", binding: later{limitsRemedy}},
	}
}

const matchRemedy = "match by user, uid, group, unit, account or listener"

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
			name:    "account",
			binding: texts(&m.Account, "a pattern", "webshop", checkPattern),
			doc:     "Patterns for the account that the client logged in as.",
		}, {
			name:    "listener",
			binding: list[ListenerRole]{&m.Listener, false, "a listener", `"submission"`, parseRole, func(r ListenerRole) string { return quote(string(r)) }},
			doc:     "How the session reached us: submission, submissions, alternate, intercepted or socket. It says nothing about who sends, so an allowing rule needs one of the others too.",
		},
		{name: "container", binding: later{matchRemedy}},
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
