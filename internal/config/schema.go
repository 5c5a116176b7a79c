package config

import "time"

// schema is the whole file: every table and key with the value in c that it
// fills and its documentation. The decoder, the manual page and the example
// file all read it here.
func schema(c *Config) section {
	return section{
		fields: []field{{
			name: "mode",
			binding: enum[Mode]{&c.Mode, []option{
				{word: "observe", doc: "block and redirect nothing; count and attribute what enforce mode would"},
				{word: "enforce", doc: "nothing but the proxy speaks SMTP to the outside"},
			}},
			doc: "Whether the firewall acts, or only reports. In observe mode `smtpwall log` shows what enforce mode would have blocked.",
		}},
		sections: []section{
			hostSection(&c.Host),
			relaySection(),
			deliverySection(&c.Delivery),
			listenSection(&c.Listen),
			firewallSection(&c.Firewall),
			certificatesSection(&c.Certificates),
			accountSection(),
			policySection(&c.Policy),
			expectSection(),
			filterSection(),
			alertSection(),
			sessionSection(&c.Session),
			auditSection(&c.Audit),
			logSection(&c.Log),
		},
	}
}

func hostSection(h *Host) section {
	return section{
		name: "host",
		doc:  "How this machine presents itself.",
		fields: []field{{
			name:    "name",
			binding: text(&h.Name, "a host name", "vps1.example.net", checkHostName),
			doc:     "The name in EHLO, in replies and in certificates. By default the machine's fully qualified name.",
			example: `"vps1.example.net"`,
		}},
	}
}

func relaySection() section {
	return section{
		name:  "relay",
		shape: named,
		doc: "An approved relay, with a name of your own for NAME. Only the proxy reaches it, and nothing else leaves the host as mail. " +
			"Without any relay, mail is accepted, held in the spool and delivered once a relay is configured.",
		fields: relayFields(specimenRelay()),
		open: func(d *decoder, name string, at ref) []field {
			if err := checkName(name); err != nil {
				d.problem(at.table.line, at.key, asFlaw(err))
			}
			d.config.Relays = append(d.config.Relays, defaultRelay(name))
			d.relays = append(d.relays, at)
			return relayFields(&d.config.Relays[len(d.config.Relays)-1])
		},
	}
}

func specimenRelay() *Relay {
	relay := defaultRelay("main")
	return &relay
}

func relayFields(r *Relay) []field {
	return []field{
		{
			name:    "address",
			binding: addressBinding{r},
			doc: "Where the relay is, host:port. A host alone is tried at 587, 2525 and 465, in that order. " +
				"Port 25 is possible, under TLS as every other.",
			example: `"smtp.example.com:587"`,
		}, {
			name: "tls",
			binding: enum[TLS]{&r.TLS, []option{
				{word: "starttls", doc: "TLS by the STARTTLS command, required; the default but on port 465"},
				{word: "implicit", doc: "TLS from the first byte; the default on port 465"},
				{word: "none", doc: "no TLS, for a relay on a loopback address alone, and not on port 25"},
			}},
			doc:     "How TLS starts. The relay's certificate is always verified, and there is no way back to plain text.",
			example: `"starttls"`,
		}, {
			name:    "username",
			binding: text(&r.Username, "a name", "relay-user", checkUsername),
			doc:     "The name to log in with. Without one the relay must know us by our address.",
			example: `"relay-user"`,
		}, {
			name:    "password",
			binding: secretBinding{&r.Password},
			doc:     "The secret to log in with. It never stands here: { credential = \"relay-main\" } is the file /etc/smtpwall/credentials/relay-main, which the service alone is shown; { file = \"/path\" } and { env = \"NAME\" } are the other ways.",
			example: `{ credential = "relay-main" }`,
		}, {
			name: "auth",
			binding: enum[Auth]{&r.Auth, []option{
				{word: "auto", doc: "the strongest that the relay offers"},
				{word: "plain", doc: "PLAIN, RFC 4616"},
				{word: "login", doc: "LOGIN, the older form of PLAIN"},
				{word: "cram-md5", doc: "CRAM-MD5, RFC 2195"},
				{word: "scram-sha-256", doc: "SCRAM-SHA-256, RFC 7677"},
				{word: "xoauth2", later: true}, {word: "oauthbearer", later: true},
			}},
			doc: "The SASL mechanism.",
		}, {
			name:    "ca",
			binding: text(&r.CAFile, "an absolute path", "/etc/smtpwall/relay-ca.pem", checkPath),
			doc:     "Authorities that may have signed the relay's certificate, a PEM file. By default those of the system.",
			example: `"/etc/smtpwall/relay-ca.pem"`,
		}, {
			name:    "pin",
			binding: list[Pin]{&r.Pins, false, "a pin", `"sha256:…"`, parsePin, func(pin Pin) string { return quote(pin.String()) }},
			doc:     "Public keys, one of which must be in the relay's certificate chain, on top of the other checks: \"sha256:\" and the base64 or hexadecimal SHA-256 of a SubjectPublicKeyInfo.",
		}, {
			name:    "connections",
			binding: count(&r.Connections, 1, 1000),
			doc:     "At most so many connections to the relay at one time. When it says that these are too many, fewer are made for a while.",
		}, {
			name:    "rate",
			binding: rate(&r.Rate),
			doc: "At most so many messages for the relay in a second, minute, hour or day, evenly spread. What comes faster waits in the spool. " +
				"By default as many as the relay takes; when it says that these are too many, fewer are sent for a while.",
			example: `"600 messages/minute"`,
		},
	}
}

func deliverySection(v *Delivery) section {
	return section{
		name: "delivery",
		doc:  "How messages are handed on.",
		fields: []field{
			{
				name: "mode",
				binding: enum[DeliveryMode]{&v.Mode, []option{
					{word: "proxy", doc: "the relay's reply is the client's reply; while the relay is down the spool takes the message"},
					{word: "queue", doc: "the spool takes each message, safe on disk, and the client is answered at once"},
				}},
				doc: "Who has custody of a message first. What the spool has is tried again until it is delivered, or until it expires.",
			}, {
				name:    "relays",
				binding: texts(&v.Relays, "a relay's name", "main", checkName),
				doc:     "The relays to use, the next one when the first is down. By default all relays, in the order of the file.",
				example: `["main"]`,
			}, {
				name:    "spool",
				binding: text(&v.Spool, "an absolute path", v.Spool, checkPath),
				doc:     "The directory of the messages that we have custody of.",
			}, {
				name:    "spool_max",
				binding: size(&v.SpoolMax, 1<<20, 1<<44),
				doc:     "How large the spool may grow. Further messages are refused with 452, and the client keeps them.",
			}, {
				name:    "spool_max_per_identity",
				binding: size(&v.SpoolMaxPerIdentity, 64<<10, 1<<44),
				doc: "How much of it one identity, that is one container, user or account, may fill. Further messages from there are refused with 452. " +
					"By default half of spool_max, or one message of the largest size.",
			}, {
				name:    "expire",
				binding: duration(&v.Expire, time.Hour, 30*day),
				doc:     "How long the spool tries to deliver a message. Then it goes back to its sender as a notice.",
			}, {
				name:    "hold_expire",
				binding: duration(&v.HoldExpire, day, 365*day),
				doc: "How long a message is held for a person to look at, because of a rule, a limit, a filter or a suspension. Then its sender is told, as of one that expires. " +
					"What waits for a relay to be configured is not meant.",
			}, {
				name:    "postmaster",
				binding: text(&v.Postmaster, "a mailbox", "admin@example.com", checkMailbox),
				doc: "The mailbox that gets a digest of the messages that could be neither delivered nor returned: a notice goes only to a sender " +
					"that policy lets the identity send as. By default nobody gets it, and the audit alone tells.",
				example: `"admin@example.com"`,
			},
		},
	}
}

func sessionSection(v *Session) section {
	return section{
		name: "session",
		doc:  "What sessions may cost.",
		fields: []field{
			{
				name:    "max_message",
				binding: size(&v.MaxMessage, 64<<10, 1<<30),
				doc:     "The largest message, announced to clients by SIZE. A larger one is refused with 552.",
			}, {
				name:    "max_recipients",
				binding: count(&v.MaxRecipients, 1, 100_000),
				doc:     "Recipients of one message. Further ones are refused with 452; RFC 5321 asks for 100 at least.",
			}, {
				name:    "max_sessions",
				binding: count(&v.MaxSessions, 1, 100_000),
				doc:     "Sessions at one time. Further ones are refused with 421.",
			}, {
				name:    "max_sessions_per_peer",
				binding: count(&v.MaxSessionsPerPeer, 1, 100_000),
				doc:     "Sessions at one time from one user, or from one address where the user is unknown.",
			}, {
				name:    "idle_timeout",
				binding: duration(&v.IdleTimeout, 10*time.Second, time.Hour),
				doc:     "How long a client may think about its next command. RFC 5321 asks for 5 minutes at least.",
			}, {
				name:    "data_timeout",
				binding: duration(&v.DataTimeout, time.Minute, 24*time.Hour),
				doc:     "How long the sending of one message may take.",
			},
		},
	}
}

func auditSection(v *Audit) section {
	return section{
		name: "audit",
		doc:  "The log of events: one for each transaction and each blocked attempt.",
		fields: []field{{
			name:    "directory",
			binding: text(&v.Directory, "an absolute path", v.Directory, checkPath),
			doc:     "Where transactions.jsonl and attempts.jsonl are written.",
		}},
	}
}

func logSection(v *Log) section {
	return section{
		name: "log",
		doc:  "The program's own log, on standard error.",
		fields: []field{{
			name: "level",
			binding: enum[Level]{&v.Level, []option{
				{word: "debug", doc: "every decision"},
				{word: "info", doc: "changes of state"},
				{word: "warn", doc: "what is degraded but heals by itself"},
				{word: "error", doc: "what somebody must act on"},
			}},
			doc: "The least severe messages to keep.",
		}},
	}
}
