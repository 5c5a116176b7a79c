package trust

// Advice is what to do for programs that do not read the system's store.
type Advice struct {
	For   string   // the programs
	Text  string   // what to do, or why
	Lines []string // to be copied: commands and settings, for this system
}

// advice is about a CA in the system's store.
func advice(a authority, s system) []Advice {
	anchor := s.anchor(a.name)
	return []Advice{
		{"running programs", "they read the store when they start: restart them", nil},
		{"Node.js", "it brings its own CAs; one of these in the program's environment (the second from 22.15, the third from 22.19 and 24.6 on)", []string{
			"NODE_EXTRA_CA_CERTS=" + anchor, "NODE_OPTIONS=--use-system-ca", "NODE_USE_SYSTEM_CA=1",
		}},
		{"Python with certifi or requests", "smtplib and ssl read the system's store, these two bring their own; in the environment", []string{
			"REQUESTS_CA_BUNDLE=" + s.bundle, "SSL_CERT_FILE=" + s.bundle,
		}},
		{"PHP", "it reads the system's store unless openssl.cafile is set; then in php.ini", []string{"openssl.cafile = " + s.bundle}},
		{"Java with a keystore of its own", "of javax.net.ssl.trustStore, of an application server, or of a JDK in a home", []string{
			"keytool -importcert -noprompt -alias " + a.name + " -file " + anchor + " -keystore KEYSTORE",
		}},
		{"snap and flatpak", "browsers and mail programs have databases below ~/snap and ~/.var/app, seen to above for the users named; others bring their own CAs", []string{
			"certutil -A -d sql:DIRECTORY -t C,, -n " + a.name + " -i " + anchor,
		}},
		{"containers", "mount the bundle over theirs (Debian's and Alpine's path is shown), with Docker or Podman", []string{
			"-v " + s.bundle + ":/etc/ssl/certs/ca-certificates.crt:ro",
		}},
		{"images", "install it into the image's file system, mounted here; or copy the file and run the image's own update when it is built", []string{
			"smtpwall trust install --root DIRECTORY",
		}},
	}
}
