package config

func expectSection() section {
	specimen := defaultExpect()
	return section{
		name:  "expect",
		shape: repeated,
		doc: "A case that policy must decide as it says. `smtpwall check` tries each, and fails where one comes out differently; nothing is sent. " +
			"Without as, uid, account, unit and container it is an unknown identity.",
		fields: expectFields(&specimen),
		open: func(d *decoder, _ string, at ref) []field {
			expect := defaultExpect()
			expect.Line = at.table.line
			d.config.Expects = append(d.config.Expects, expect)
			d.expects = append(d.expects, at)
			return expectFields(&d.config.Expects[len(d.config.Expects)-1])
		},
	}
}

func expectFields(e *Expect) []field {
	return append(expectIdentity(e),
		field{
			name:    "from",
			binding: single[string]{&e.From, kindString, "an address", `"shop@example.com"`, parseReversePath, quoteSet},
			doc:     "The reverse-path; \"<>\" is the null one.",
			example: `"shop@example.com"`,
		}, field{
			name:    "to",
			binding: texts(&e.To, "an address", "customer@example.net", checkAddress),
			doc:     "The recipients. Without any, the reverse-path alone is tried.",
			example: `["customer@example.net"]`,
		}, field{
			name:    "header_from",
			binding: text(&e.HeaderFrom, "an address", "shop@example.com", checkAddress),
			doc:     "The address in the From header field, which is not looked at without this key.",
			example: `"shop@example.com"`,
		}, field{
			name: "decision",
			binding: enum[Result]{&e.Decision, []option{
				{word: "allow", doc: "all of it may be sent"},
				{word: "deny", doc: "something in it is refused for good"},
				{word: "defer", doc: "it is told to try again later"},
				{word: "hold", doc: "it is held"},
			}},
			doc:     "What must come of it.",
			example: `"allow"`,
		}, field{
			name:    "rule",
			binding: text(&e.Rule, "a rule's name", "sites", checkName),
			doc:     "The rule that must decide. By default any.",
			example: `"sites"`,
		})
}

// expectIdentity are the keys that say who sends, and where.
func expectIdentity(e *Expect) []field {
	return []field{
		{
			name:    "as",
			binding: text(&e.User, "a user's name", "www-data", checkPlainName),
			doc:     "The user, with the uid and the groups that this host gives that name.",
			example: `"www-data"`,
		}, {
			name:    "uid",
			binding: uidBinding{&e.UID},
			doc:     "The number of the user, instead of as.",
			instead: true,
		}, {
			name:    "unit",
			binding: text(&e.Unit, "a unit's full name", "php8.2-fpm.service", checkUnitName),
			doc:     "The systemd unit.",
			example: `"php8.2-fpm.service"`,
		}, {
			name:    "container",
			binding: text(&e.Container, "a container's id", "d4f1…", checkPlainName),
			doc:     "The container.",
			instead: true,
		}, {
			name:    "account",
			binding: text(&e.Account, "an account", "webshop", checkAccountName),
			doc:     "The account that the client logged in as.",
			instead: true,
		}, {
			name:    "listener",
			binding: enum[ListenerRole]{&e.Listener, listenerOptions()},
			doc:     "How the session reached us.",
		},
	}
}

func listenerOptions() []option {
	docs := map[ListenerRole]string{
		RoleSubmission:  "port 587",
		RoleSubmissions: "port 465",
		RoleAlternate:   "port 2525",
		RoleIntercepted: "a connection to another host that was redirected",
		RoleSocket:      "the Unix socket",
	}
	options := make([]option, len(roles))
	for i, role := range roles {
		options[i] = option{word: role, doc: docs[ListenerRole(role)]}
	}
	return options
}
