package acme_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// deployHook is what certbot calls after an issuance, as docs/certificates.md
// has it: its own files are root's alone.
const deployHook = `#!/bin/sh
set -eu
install -o 64998 -g 64998 -m 0600 "$RENEWED_LINEAGE/privkey.pem" $DIR/installed/privkey.pem
install -o 64998 -g 64998 -m 0644 "$RENEWED_LINEAGE/fullchain.pem" $DIR/installed/fullchain.pem
`

// certbot prepares a certbot that uses the bed's CA.
func (b *bed) certbot(args ...string) *exec.Cmd {
	all := append([]string{"-c", "import sys; sys.argv[0] = 'certbot'; from certbot.main import main; sys.exit(main())"}, args...)
	all = append(all, "--non-interactive", "--server", b.ca.Directory(), "--no-random-sleep-on-renew",
		"--config-dir", b.path("letsencrypt"), "--work-dir", b.path("letsencrypt-work"), "--logs-dir", b.path("letsencrypt-log"))
	cmd := b.Host.Command(context.WithoutCancel(b.t.Context()), "/usr/bin/python3", all...) // Debian's, whose certbot it is
	cmd.Env = append(os.Environ(), "REQUESTS_CA_BUNDLE="+b.path("ca.pem"))
	return cmd
}

// TestCertbot: a real certbot gets and renews the certificate, and its hook
// installs the two files one after the other.
func TestCertbot(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	if err := os.Mkdir(b.path("installed"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.write("deploy-hook", strings.ReplaceAll(deployHook, "$DIR", b.dir), 0o755, 0)
	b.configure(setup{config: "source = \"files\"\ncertificate = \"$DIR/installed/fullchain.pem\"\nkey = \"$DIR/installed/privkey.pem\"\n"})
	must(t, b.certbot("certonly", "--standalone", "--domain", hostName, "--agree-tos", "--register-unsafely-without-email",
		"--deploy-hook", b.path("deploy-hook")))
	b.start()
	first := b.awaitCertificate(t, b.ca.Roots(0), hostName)
	must(t, b.certbot("renew", "--force-renewal"))
	await(t, "the renewed certificate", func() bool {
		shown, err := b.handshake(submissions, b.ca.Roots(0), hostName)
		if err != nil {
			t.Fatal(err)
		}
		return !shown.Equal(first)
	})
	b.checkMail(t, b.ca.Roots(0))
	b.awaitWell(t)
}
