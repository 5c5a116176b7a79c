package demo

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/smtpwall/smtpwall/proxy/auth"
)

func (d *Demo) path(parts ...string) string {
	return filepath.Join(append([]string{d.dir}, parts...)...)
}

// writeFiles writes both configurations and the relay's credential.
func (d *Demo) writeFiles() error {
	password := rand.Text()
	hash, _, err := auth.HashPassword([]byte(password))
	if err != nil {
		return err
	}
	files := map[string]string{
		"relay.toml": fmt.Sprintf(relayConfig, relayAddress, d.dir, hash),
		"host.toml":  fmt.Sprintf(hostConfig, relayAddress, d.dir),
		"password":   password,
	}
	for _, directory := range []string{"relay/log", "relay/run", "host/run"} {
		if err := os.MkdirAll(d.path(directory), 0o755); err != nil {
			return err
		}
	}
	for name, text := range files {
		if err := os.WriteFile(d.path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.Chmod(d.path("password"), 0o600); err != nil {
		return err
	}
	return os.Chown(d.path("password"), proxyUID, proxyUID)
}

// shareAuthority does what an administrator does with a private relay's CA.
func (d *Demo) shareAuthority() error {
	text, err := os.ReadFile(d.path("relay", "certs", "local-ca", "root.pem"))
	if err != nil {
		return err
	}
	return os.WriteFile(d.path("relay-ca.pem"), text, 0o644)
}

// relayConfig is the stand-in's: it takes mail from one account and holds it.
const relayConfig = `[host]
name = "relay.example"
[listen]
submission = ["%[1]s:587"]
submissions = []
alternate = []
socket = ""
admin = ""
[delivery]
spool = "%[2]s/relay/spool"
[audit]
directory = "%[2]s/relay/log"
[[account]]
name = "smtpwall"
password = "%[3]s"
`

// hostConfig is an ordinary one, but for its directories.
const hostConfig = `mode = "enforce"
[host]
name = "vps1.example"
[relay.main]
address = "%[1]s:587"
username = "smtpwall"
password = { file = "%[2]s/password" }
ca = "%[2]s/relay-ca.pem"
[listen]
socket = "%[2]s/host/submit.sock"
admin = "%[2]s/host/admin.sock"
[delivery]
spool = "%[2]s/host/spool"
[audit]
directory = "%[2]s/host/log"
`

// indent fits text of several lines under a step.
func indent(text []byte) string {
	return strings.ReplaceAll(strings.TrimRight(string(text), "\n"), "\n", "\n   ")
}
