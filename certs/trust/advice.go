package trust

// Advice is what to do for programs that do not read the stores.
type Advice struct {
	For   string   // the programs
	Text  string   // what to do, or why
	Lines []string // to be copied: commands and settings, for this system
}

// advice is about a CA in the system's store.
func advice(a authority, s system) []Advice {
	anchor := s.anchor(a.name)
	return []Advice{
		{For: "Running programs", Text: "they read the store when they start; restart them"},
		{
			For:   "Node.js",
			Text:  "it brings its own CAs; set one of these in its environment (the second is known from 22.15 on, the third from 22.19 and 24.6)",
			Lines: []string{"NODE_EXTRA_CA_CERTS=" + anchor, "NODE_OPTIONS=--use-system-ca", "NODE_USE_SYSTEM_CA=1"},
		},
		{
			For: "Python with requests, httpx or certifi, or built elsewhere",
			Text: "the distribution's ssl and smtplib need nothing; for the others set both in the environment. " +
				"A program that loads certifi's file itself needs the third, after each upgrade of certifi",
			Lines: []string{"REQUESTS_CA_BUNDLE=" + s.bundle, "SSL_CERT_FILE=" + s.bundle, "cat " + anchor + ` >>"$(python3 -m certifi)"`},
		},
		{
			For:   "PHP with openssl.cafile set, or built elsewhere",
			Text:  "the distribution's needs nothing; for the others in php.ini",
			Lines: []string{"openssl.cafile = " + s.bundle},
		},
		{
			For:   "Java with a keystore of its own",
			Text:  "by javax.net.ssl.trustStore, in an application server, or in a JDK that was left alone above",
			Lines: []string{"keytool -importcert -noprompt -alias " + a.name + " -file " + anchor + " -keystore KEYSTORE"},
		},
		{
			For: "Browsers and mail programs of other users, snaps and flatpaks",
			Text: "name the users, or let each do it (DIRECTORY has cert9.db in it, below ~/.mozilla, ~/.thunderbird, ~/.pki, ~/snap or ~/.var/app); " +
				"other snaps and flatpaks bring their own CAs",
			Lines: []string{"smtpwall trust install --user NAME", "certutil -A -d sql:DIRECTORY -t C,, -n " + a.name + " -i " + anchor},
		},
		{
			For:  "Containers of Docker and Podman",
			Text: "mount the bundle over theirs, the first in images of Debian, Ubuntu, Alpine and Arch, the second in those of Red Hat and Fedora; restart them when the bundle changes",
			Lines: []string{
				"-v " + s.bundle + ":/etc/ssl/certs/ca-certificates.crt:ro",
				"-v " + s.bundle + ":/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem:ro",
			},
		},
		{
			For:   "Images",
			Text:  "install it into the file system of one that is mounted",
			Lines: []string{"smtpwall trust install --root DIRECTORY"},
		},
	}
}
