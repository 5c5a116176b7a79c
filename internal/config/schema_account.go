package config

import "encoding/hex"

func accountSection() section {
	return section{
		name:  "account",
		shape: repeated,
		doc: "A credential for peers that the kernel cannot vouch for, or who want one. Local processes need none. " +
			"At least one of password, scram and certificate is given.",
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
			binding: hashBinding{&a.Password, "a hash", "$argon2id$…", checkPasswordHash},
			doc:     "The hash of the password, argon2id or bcrypt, for PLAIN and LOGIN. `smtpwall account hash` makes it. { file = \"/path\" } is a file that holds it and nothing else.",
			example: `"$argon2id$…"`,
		}, {
			name:    "scram",
			binding: hashBinding{&a.SCRAM, "a stored key", "SCRAM-SHA-256$…", checkSCRAM},
			doc:     "The stored key for SCRAM-SHA-256, as PostgreSQL writes it too, or the { file = \"/path\" } that holds it.",
			example: `"SCRAM-SHA-256$…"`,
		}, {
			name: "certificate",
			binding: oneOrMore[[32]byte]{list[[32]byte]{&a.Certificates, false, "a fingerprint", quote("sha256:…"), parseFingerprint,
				func(fingerprint [32]byte) string { return quote("sha256:" + hex.EncodeToString(fingerprint[:])) }}},
			doc:     "Certificates with which a client can log in by EXTERNAL and without a password: \"sha256:\" and the fingerprint that `openssl x509 -in client.pem -noout -fingerprint -sha256` prints. Nobody need have signed such a certificate; its dates count.",
			example: `"sha256:…"`,
		},
	}
}
