package e2e_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// postfixMain makes a relay of Postfix: it wants TLS and a login, takes mail for
// two domains only from who logged in, and delivers it to directories.
const postfixMain = `compatibility_level = 3.6
queue_directory = $DIR/queue
data_directory = $DIR/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
myhostname = mail.provider.example
mydestination =
inet_interfaces = 203.0.113.10
inet_protocols = ipv4
maillog_file = $DIR/maillog
maillog_file_prefixes = $DIR
message_size_limit = 41943040
mailbox_size_limit = 0
virtual_mailbox_limit = 0
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_tls_chain_files = $DIR/key.pem, $DIR/chain.pem
smtpd_sasl_auth_enable = yes
cyrus_sasl_config_path = $DIR/sasl
smtpd_sasl_local_domain = mail.provider.example
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_recipient_access inline:{nobody@example.net=REJECT}, permit
virtual_mailbox_domains = example.net, shop.example
virtual_mailbox_maps = inline:{customer@example.net=customer/, admin@example.net=admin/, orders@shop.example=orders/}
virtual_mailbox_base = $DIR/mail
virtual_uid_maps = static:$UID
virtual_gid_maps = static:$UID
virtual_minimum_uid = 1
`

const postfixMaster = `587 inet n - n - - smtpd
465 inet n - n - - smtpd
    -o smtpd_tls_wrappermode=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
`

const postfixSASL = `pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: $DIR/sasl/sasldb2
mech_list: $MECHANISMS
`

// postfix is a running one.
type postfix struct {
	where  *lab.Namespace
	dir    string
	master *process
}

// startPostfix takes the place of the bed's stand-in relay.
func (b *bed) startPostfix(mechanisms string) *postfix {
	b.t.Helper()
	if err := b.relay.Close(); err != nil {
		b.t.Fatal(err)
	}
	p := &postfix{where: b.Remote, dir: b.path("postfix")}
	chain, key := b.authority.issue(b.t, relayAddr)
	b.configurePostfix(p, map[string]string{
		"main.cf": postfixMain, "master.cf": postfixMaster, "chain.pem": string(chain), "key.pem": string(key),
		"sasl/smtpd.conf": strings.Replace(postfixSASL, "$MECHANISMS", mechanisms, 1),
	})
	b.shell(b.relayPassword, "saslpasswd2 -p -c -f "+p.dir+"/sasl/sasldb2 -u mail.provider.example "+relayUser)
	b.shell("", "chown postfix "+p.dir+"/sasl/sasldb2 && chown "+fmt.Sprint(siteUID)+" "+p.dir+"/mail")
	b.runPostfix(p, netip.AddrPortFrom(relayAddr, 587))
	return p
}

// runPostfix starts the master, which ends with the test, and all that it
// started with it.
func (b *bed) runPostfix(p *postfix, answers netip.AddrPort) {
	b.t.Helper()
	// It makes the queue directories, and warns of owners, which matter to a set-gid postdrop alone.
	b.shell("", "chown postfix "+p.dir+"/data && postfix -c "+p.dir+" check")
	b.runMaster(p)
	b.t.Cleanup(func() {
		if b.t.Failed() {
			b.t.Logf("Postfix says:\n%s%s", readFile(b.t, filepath.Join(p.dir, "maillog")), p.master.said)
		}
	})
	b.awaitAnswer(p.where, answers)
}

// runMaster starts the master alone, again perhaps.
func (b *bed) runMaster(p *postfix) {
	b.t.Helper()
	cmd := p.where.Command(context.WithoutCancel(b.t.Context()), "/usr/lib/postfix/sbin/master", "-c", p.dir, "-d")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "MAIL_CONFIG=" + p.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // by which it ends what it has started
	p.master = launch(b.t, cmd)
	b.t.Cleanup(p.stop)
}

// stop ends all of it, by the master's signal.
func (p *postfix) stop() { _ = p.master.end(syscall.SIGTERM) }

func (b *bed) configurePostfix(p *postfix, files map[string]string) {
	b.t.Helper()
	for _, directory := range []string{"queue", "data", "mail", "sasl"} {
		if err := os.MkdirAll(filepath.Join(p.dir, directory), 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	files["maillog"] = ""
	expand := strings.NewReplacer("$DIR", p.dir, "$UID", fmt.Sprint(siteUID), "$CA", b.localCA())
	for name, text := range files {
		b.write(filepath.Join(filepath.Base(p.dir), name), expand.Replace(text), 0o644, 0)
	}
}

// shell runs a line of preparations, in the remote.
func (b *bed) shell(stdin, line string) {
	b.t.Helper()
	cmd := b.Remote.Command(b.t.Context(), "sh", "-c", line)
	cmd.Stdin = strings.NewReader(stdin)
	if said, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%s: %v: %s", line, err, said)
	}
}

// inBox waits until a mailbox has a mail with some text in it.
func (p *postfix) inBox(t testing.TB, box, text string) (path string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(10 * time.Millisecond); time.Now().Before(deadline); <-tick.C {
		files, err := filepath.Glob(filepath.Join(p.dir, "mail", box, "new", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.Contains(readFile(t, file), text) {
				return file
			}
		}
	}
	t.Fatalf("Postfix has not delivered %q to %s within %s", text, box, patience)
	return ""
}

// delivered waits until Postfix has put a letter into its mailbox, and returns
// it with the line ends that it had on the wire.
func (p *postfix) delivered(t testing.TB, l letter) []byte {
	t.Helper()
	text := readFile(t, p.inBox(t, "customer", l.marker))
	return []byte(strings.ReplaceAll(text, "\n", "\r\n"))
}

// checkDelivered holds what Postfix delivered to the letter, and our Received
// field, which stands between Postfix's and the letter, to what it should say.
func (b *bed) checkDelivered(t testing.TB, p *postfix, l letter, want trace) {
	t.Helper()
	head := l.compare(t, p.delivered(t, l))
	at := strings.LastIndex(head, "Received: ")
	txn := want.check(t, head[at:])
	event := b.transaction(t, txn)
	if event.Custody == audit.CustodySpool {
		event = b.awaitDelivery(t, txn)
	}
	if !strings.Contains(event.RelayReply, "queued as ") {
		t.Errorf("the event has not Postfix's words: %+v", event)
	}
	if !strings.Contains(head[:at], "from "+hostName+" ") || !strings.Contains(head[:at], "with ESMTPSA id ") {
		t.Errorf("Postfix says of us: %s", head[:at])
	}
}

// TestPostfix: a real relay, its TLS and its SASL, and clients of each kind.
func TestPostfix(t *testing.T) {
	t.Parallel()
	for _, mechanisms := range []string{"PLAIN LOGIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"} {
		t.Run(mechanisms, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, setup{idle: true})
			p := b.startPostfix(mechanisms)
			b.start(setup{})
			local := trace{"local process", "ESMTPS"}
			t.Run("curl", func(t *testing.T) {
				l := newLetter()
				mustSucceed(t, b.program("curl", b.curl(l, "smtps://localhost:465")...))
				b.checkDelivered(t, p, l, local)
			})
			if mechanisms != "PLAIN LOGIN" {
				return
			}
			b.checkPostfixClients(t, p, local)
		})
	}
}

func (b *bed) checkPostfixClients(t *testing.T, p *postfix, local trace) {
	t.Run("swaks", func(t *testing.T) {
		l := newLetter()
		said := mustSucceed(t, b.program("swaks", b.swaks(l, "--server", "127.0.0.1:587", "--tls")...))
		if !strings.Contains(said, " queued as ") {
			t.Errorf("swaks was told:\n%s", said)
		}
		b.checkDelivered(t, p, l, local)
	})
	t.Run("msmtp", func(t *testing.T) {
		l := newLetter()
		mustSucceed(t, b.msmtp("submission", l))
		b.checkDelivered(t, p, l, local)
	})
	t.Run("smtplib with mixed recipients", func(t *testing.T) {
		l := newLetter()
		got := b.python(t, order{
			Host: "localhost", Port: 587, TLS: "starttls", CA: b.localCA(), File: b.letterFile(l),
			To: []string{"nobody@example.net", recipient, "absent@example.net"},
		})
		if got.Refused["nobody@example.net"].code != 554 || got.Refused["absent@example.net"].code != 550 || len(got.Refused) != 2 {
			t.Errorf("refused: %+v", got.Refused)
		}
		b.checkDelivered(t, p, l, local)
	})
	t.Run("big", func(t *testing.T) {
		l := bigLetter(25 << 20)
		mustSucceed(t, b.program("curl", b.curl(l, "smtp://localhost:587", "--ssl-reqd")...))
		b.checkDelivered(t, p, l, local)
	})
}
