package e2e_test

import (
	"bytes"
	"crypto/rand"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// baseConfig is an ordinary configuration, but for its directories.
const baseConfig = `mode = "$MODE"
[host]
name = "` + hostName + `"
[listen]
socket = "$DIR/submit.sock"
admin = "$DIR/admin.sock"
[delivery]
spool = "$DIR/state/spool"
$DELIVERY
[audit]
directory = "$DIR/log"
[log]
level = "debug"
`

// relayConfig approves the relay of the bed.
const relayConfig = `[relay.main]
address = "203.0.113.10:587"
username = "` + relayUser + `"
password = { file = "$DIR/relay-password" }
ca = "$DIR/relay-ca.pem"
`

// secondRelay approves another one, reached by implicit TLS.
const secondRelay = `[relay.second]
address = "203.0.113.11:465"
username = "` + relayUser + `"
password = { file = "$DIR/relay-password" }
ca = "$DIR/relay-ca.pem"
`

// configure writes the files that smtpwall starts from.
func (b *bed) configure(s setup) {
	b.t.Helper()
	b.writeFor("relay-password", b.relayPassword+"\n", 0o640, 0, proxyUID)
	b.write("relay-ca.pem", string(b.authority.pem), 0o644, 0)
	b.rewrite(s)
}

// rewrite replaces the configuration file.
func (b *bed) rewrite(s setup) {
	b.t.Helper()
	text := baseConfig
	if !s.noRelay {
		text += relayConfig
	}
	mode := s.mode
	if mode == "" {
		mode = "enforce"
	}
	text += s.config
	text = strings.NewReplacer("$DIR", b.dir, "$MODE", mode, "$DELIVERY", s.delivery).Replace(text)
	b.write("host.toml", text, 0o644, 0)
}

// reload puts a new configuration in force, in guard and proxy.
func (b *bed) reload(s setup) {
	b.t.Helper()
	b.rewrite(s)
	before := b.run.said.count(`"msg":"reloaded"`)
	b.run.signal(b.t, syscall.SIGHUP)
	b.run.said.await(b.t, `"msg":"reloaded"`, before+1)
}

// The one account of the configurations that have any.
const accountName = "webshop"

var accountPassword = rand.Text()

// accountConfig is the account as `smtpwall account hash` writes it.
func accountConfig(t testing.TB) string {
	t.Helper()
	lines, err := hashOnce()
	if err != nil {
		t.Fatal(err)
	}
	return "[[account]]\nname = \"" + accountName + "\"\n" + lines
}

// hashOnce makes the hash of the account's password, once for all tests.
var hashOnce = sync.OnceValues(func() (string, error) {
	cmd := exec.Command(binary, "account", "hash")
	cmd.Stdin = strings.NewReader(accountPassword + "\n")
	var out bytes.Buffer
	cmd.Stdout = &out
	err := cmd.Run()
	return out.String(), err
})

func randomWord() string { return strings.ToLower(rand.Text()) }
