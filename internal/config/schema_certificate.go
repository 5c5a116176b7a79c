package config

import "time"

func certificatesSection(v *Certificates) section {
	fields := []field{{
		name: "source",
		binding: enum[CertificateSource]{&v.Source, []option{
			{word: "local", doc: "our own local CA, which `smtpwall trust install` puts into the system's store"},
			{word: "acme", doc: "a CA that speaks ACME, such as Let's Encrypt"},
			{word: "files", doc: "the files named by certificate and key, which somebody else renews"},
		}},
		doc: "Who certifies the host's names. The local CA does as long as there is no valid certificate from elsewhere; for localhost, for the host's addresses and for servers that redirected clients dial it does always.",
	}}
	fields = append(fields, fileFields(v)...)
	fields = append(fields, nameFields(v)...)
	fields = append(fields, issuerFields(&v.Issuers[0], LetsEncrypt)...)
	fields = append(fields, challengeFields(v)...)
	return section{
		name:     "certificates",
		doc:      "Where the certificates of the listeners come from. docs/certificates.md says which source fits, and how to get there.",
		fields:   append(fields, tlsFields(v)...),
		sections: []section{dnsSection(&v.DNS), fallbackSection()},
	}
}

// fileFields are the keys of source = "files".
func fileFields(v *Certificates) []field {
	return []field{
		{
			name:    "certificate",
			binding: text(&v.Certificate, "an absolute path", "/etc/smtpwall/certificate.pem", checkPath),
			doc:     "The certificate and its chain, a PEM file, for source = \"files\". It is watched, and read again when it changes.",
			example: `"/etc/smtpwall/certificate.pem"`,
		}, {
			name:    "key",
			binding: text(&v.Key, "an absolute path", "/etc/smtpwall/key.pem", checkPath),
			doc:     "The private key, a PEM file, for source = \"files\". The user smtpwall must be able to read it.",
			example: `"/etc/smtpwall/key.pem"`,
		},
	}
}

// nameFields say for whom certificates are asked.
func nameFields(v *Certificates) []field {
	return []field{
		{
			name:    "names",
			binding: list[string]{&v.Names, false, "a host name", `"vps1.example.net"`, parseCertifiedName, quote},
			doc:     "The names to be certified, for source = \"acme\": one certificate each. \"*.example.net\" is every name one step below, with challenge = \"dns-01\" alone. By default the host's name.",
			example: `["vps1.example.net"]`,
		}, {
			name:    "email",
			binding: text(&v.Email, "a mailbox", "admin@example.net", checkMailbox),
			doc:     "The mailbox of the account at the CA, for source = \"acme\". The CA may write there.",
			example: `"admin@example.net"`,
		},
	}
}

// zeroSSL is the directory of another CA for everybody, as an example.
const zeroSSL = "https://acme.zerossl.com/v2/DV90"

// issuerFields are the keys of one CA.
func issuerFields(i *Issuer, directory string) []field {
	return []field{
		{
			name:    "directory",
			binding: text(&i.Directory, "an https URL", directory, checkDirectoryURL),
			doc:     "The CA's ACME directory, a URL that the CA tells, for source = \"acme\".",
			example: quote(directory),
		}, {
			name:    "ca",
			binding: text(&i.CAFile, "an absolute path", "/etc/smtpwall/acme-ca.pem", checkPath),
			doc:     "Authorities that may have signed the certificate of the directory itself, a PEM file, for a CA of your own. By default those of the system.",
			example: `"/etc/smtpwall/acme-ca.pem"`,
		}, {
			name:    "eab_key_id",
			binding: text(&i.EABKeyID, "a key id", "kid-1", checkKeyID),
			doc:     "The name of the key that binds the ACME account to one that you have at the CA, where the CA wants that (external account binding).",
			example: `"kid-1"`,
		}, {
			name:    "eab_key",
			binding: secretBinding{&i.EABKey},
			doc:     "That key, in base64url as the CA gives it. Its three forms are those of a relay's password.",
			example: `{ credential = "acme-eab" }`,
		}, {
			name:    "preferred_chain",
			binding: text(&i.PreferredChain, "a common name", "ISRG Root X1", checkCommonName),
			doc:     "The common name of the issuer of the last certificate in the chain to be chosen, where the CA offers several. By default the first that it offers.",
			example: `"ISRG Root X1"`,
		}, {
			name:    "profile",
			binding: text(&i.Profile, "the name of a profile", "shortlived", checkName),
			doc:     "The CA's profile to ask for, which `smtpwall check` looks up. By default the CA's own choice.",
			example: `"shortlived"`,
		},
	}
}

// challengeFields say how a CA is shown that a name is ours.
func challengeFields(v *Certificates) []field {
	return []field{
		{
			name: "challenge",
			binding: enum[Challenge]{&v.Challenge, []option{
				{word: "http-01", doc: "the CA asks port 80 of each name"},
				{word: "tls-alpn-01", doc: "the CA asks port 443 of each name"},
				{word: "dns-01", doc: "the CA asks the name servers, which [certificates.dns] or hook changes; the host itself need not be reached"},
			}},
			doc: "How the CA is shown that a name is this host's, for source = \"acme\".",
		}, {
			name:    "http_port",
			binding: count(&v.HTTPPort, 0, 65535),
			doc: "Where the proxy answers http-01, on all addresses; 0 for nowhere. The CA comes to port 80 whatever stands here: another port needs a server there that hands the challenge over. " +
				"With the packaged service smtpwall-acme@80.socket opens it, or one with another number.",
		}, {
			name:    "tls_alpn_port",
			binding: count(&v.TLSALPNPort, 0, 65535),
			doc:     "Where the proxy answers tls-alpn-01, on all addresses; 0 for nowhere but the submissions listeners, which answer it too. The CA comes to port 443. With the packaged service smtpwall-acme@443.socket opens it.",
		}, {
			name:    "web_root",
			binding: text(&v.WebRoot, "an absolute path", "/var/www/html", checkPath),
			doc:     "A directory from which a web server on port 80 serves files: for http-01, the proxy writes to .well-known/acme-challenge in there instead of listening itself.",
			example: `"/var/www/html"`,
		}, {
			name:    "hook",
			binding: commandBinding{&v.Hook, "/usr/local/sbin/acme-dns"},
			doc: "A program, by its absolute path, and its first arguments, that changes the name servers for dns-01. It is called with three more: \"present\" or \"cleanup\", the name of the TXT record, and its value. " +
				"No shell is involved. It runs as the service's user, so nobody but root and that user may be able to replace it.",
			example: `["/usr/local/sbin/acme-dns"]`,
		},
	}
}

// tlsFields are for each source.
func tlsFields(v *Certificates) []field {
	return []field{
		{
			name: "min_version",
			binding: enum[TLSVersion]{&v.MinVersion, []option{
				{word: "1.2", doc: "TLS 1.2 and 1.3"},
				{word: "1.3", doc: "TLS 1.3 alone, which programs from before 2018 do not speak"},
			}},
			doc: "The least version of TLS that clients may speak.",
		}, {
			name:    "ca_names",
			binding: list[string]{&v.CANames, false, "a domain or a network", `"example.net"`, parseConstraint, quote},
			doc: "All that the local CA can ever sign beside this host's own names and addresses, as name constraints in its own certificate: domains, each with what is below it, and networks. " +
				"Clients that are redirected on their way to other servers see the host's certificate then. By default it can sign any name. The constraints are set when the CA is made; after a change a condition says how to have another one made.",
			example: `["example.net", "192.0.2.0/24"]`,
		}, {
			name:    "redirected_names",
			binding: list[string]{&v.RedirectedNames, false, "a pattern", `"*.example.com"`, parseHostPattern, quote},
			doc:     "Servers whose names the local CA signs for clients that dial them and are redirected: names, \"*.example.com\" for every name below one, \"*\" for all. [] for none.",
		}, {
			name:    "redirected_exclude",
			binding: list[string]{&v.RedirectedExclude, false, "a pattern", `"*.bank.example"`, parseHostPattern, quote},
			doc:     "Servers whose names it never signs, whatever redirected_names says.",
			example: `["*.bank.example"]`,
		},
	}
}

func dnsSection(u *DNSUpdate) section {
	return section{
		name: "certificates.dns",
		doc:  "A name server that takes the records of dns-01 by dynamic update (RFC 2136), such as BIND, Knot DNS or PowerDNS.",
		fields: []field{
			{
				name:    "server",
				binding: single[string]{&u.Server, kindString, "host:port", `"ns1.example.net:53"`, parseNameServer, quoteSet},
				doc:     "The primary name server of the zone, host:port. A host alone has port 53.",
				example: `"ns1.example.net:53"`,
			}, {
				name:    "zone",
				binding: single[string]{&u.Zone, kindString, "a zone", `"example.net"`, parseDomain, quoteSet},
				doc:     "The zone to change. By default the server is asked.",
				example: `"example.net"`,
			}, {
				name:    "key_name",
				binding: single[string]{&u.KeyName, kindString, "a key's name", `"smtpwall-acme"`, parseDomain, quoteSet},
				doc:     "The name of the TSIG key (RFC 8945) that the server knows.",
				example: `"smtpwall-acme"`,
			}, {
				name: "algorithm",
				binding: algorithmBinding{enum[string]{&u.Algorithm, []option{
					{word: "hmac-sha224", doc: "for servers that want it"},
					{word: "hmac-sha256", doc: "what tools make unless told otherwise"},
					{word: "hmac-sha384", doc: "for servers that want it"},
					{word: "hmac-sha512", doc: "for servers that want it"},
				}}},
				doc: "The algorithm of the key.",
			}, {
				name:    "key",
				binding: secretBinding{&u.Key},
				doc:     "The key itself, in base64 as `tsig-keygen` and `keymgr` print it. Its three forms are those of a relay's password.",
				example: `{ credential = "acme-tsig" }`,
			}, {
				name:    "resolvers",
				binding: list[string]{&u.Resolvers, false, "host:port", `"9.9.9.9:53"`, parseNameServer, quote},
				doc:     "Name servers that are asked which zone a name is in and which servers have that. By default the server itself, and those of /etc/resolv.conf where it does not know.",
				example: `["9.9.9.9:53"]`,
			}, {
				name:    "propagation",
				binding: duration(&u.Propagation, time.Second, time.Hour),
				doc:     "How long the servers of the zone may take until all of them show a record. The CA is told to look as soon as they do.",
			},
		},
	}
}

func fallbackSection() section {
	specimen := defaultIssuer()
	return section{
		name:   "certificates.fallback",
		shape:  repeated,
		doc:    "Another CA, which is asked where those before it fail. The names and the challenge are the same.",
		fields: issuerFields(&specimen, zeroSSL),
		open: func(d *decoder, _ string, at ref) []field {
			d.fallbacks = append(d.fallbacks, at)
			d.otherIssuers = append(d.otherIssuers, defaultIssuer())
			return issuerFields(&d.otherIssuers[len(d.otherIssuers)-1], zeroSSL)
		},
	}
}
