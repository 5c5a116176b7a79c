package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// Clients are not limited in number, and there are processes for 200 of them;
// nothing else differs from what Postfix does by itself.
const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
myhostname = %[2]s
mydestination =
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
default_process_limit = 300
smtpd_client_connection_count_limit = 0
message_size_limit = 67108864
mailbox_size_limit = 0
smtpd_tls_security_level = may
smtpd_tls_chain_files = %[3]s
smtpd_sasl_auth_enable = yes
cyrus_sasl_config_path = %[1]s/sasl
smtpd_sasl_local_domain = %[2]s
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject
relayhost = [127.0.0.1]:%[4]s
smtp_tls_wrappermode = yes
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = %[5]s
smtp_tls_CAfile = %[6]s
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = static:%[7]s:%[8]s
`

const postfixMaster = `%[1]s inet n - n - - smtpd
    %[2]s
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
pickup unix n - n 60 1 pickup
flush unix n - n 1000? 0 flush
showq unix n - n - - showq
`

const postfixSASL = `pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: %s
mech_list: PLAIN LOGIN
`

// startPostfixRelay runs Postfix as a relay: each message is synced to its queue
// before the 250 and delivered from there.
func startPostfixRelay(ctx context.Context, env Environment) (*Running, error) {
	running, err := startPostfix(ctx, env, postfixSetup{})
	if err != nil {
		return nil, err
	}
	running.Queues = true
	running.Note = "queued with one fsync; the rate counts until the relay has the last message"
	return running, nil
}

// startPostfixProxy runs Postfix as a before-queue proxy: smtpd hands the
// dialogue to the relay and passes its final reply on. It can do that in clear
// only.
func startPostfixProxy(ctx context.Context, env Environment) (*Running, error) {
	running, err := startPostfix(ctx, env, postfixSetup{option: "-o smtpd_proxy_filter=" + env.RelaySTART})
	if err != nil {
		return nil, err
	}
	running.Note = "in clear and without AUTH to the relay"
	return running, nil
}

// postfixSetup is what differs between the instances.
type postfixSetup struct {
	option string // of the smtpd that listens
	main   string // lines that main.cf ends with
	held   bool   // with postfixQueueMaster
}

func startPostfix(ctx context.Context, env Environment, setup postfixSetup) (*Running, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("Postfix needs root to start")
	}
	program, err := lookUp("postfix")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	if err := configurePostfix(ctx, env, ports, setup); err != nil {
		return nil, err
	}
	// In the foreground, so that there is somebody to wait for: a script, whose
	// child is the master that is to be told to end.
	process, err := daemon(env, exec.Command(program, "-c", env.Dir, "start-fg"))
	if err != nil {
		return nil, err
	}
	stop := func() error {
		master, err := masterOf(env)
		if err != nil {
			return errors.Join(err, process.stop())
		}
		return process.stopBy(master)
	}
	running := &Running{STARTTLS: ports[0], Plain: ports[0], PID: process.pid, stop: stop}
	if setup.held {
		running.Held = ports[1]
	}
	return running, nil
}

// masterOf reads the id that Postfix's master notes in its queue directory.
func masterOf(env Environment) (int, error) {
	text, err := os.ReadFile(filepath.Join(env.Dir, "spool", "pid", "master.pid"))
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("reading master.pid: %w", err)
	}
	return pid, nil
}

func configurePostfix(ctx context.Context, env Environment, ports []string, setup postfixSetup) error {
	master := strings.ReplaceAll(fmt.Sprintf(postfixMaster, ports[0], setup.option), "    \n", "")
	if setup.held {
		master += fmt.Sprintf(postfixQueueMaster, ports[1])
	}
	accounts := filepath.Join(env.Dir, "sasl", "sasldb2")
	files := map[string]string{
		"main.cf": fmt.Sprintf(postfixMain, env.Dir, env.Name, env.Certificate, portOf(env.RelayTLS),
			env.RelayName, env.RelayCA, env.Username, env.Password) + setup.main,
		"master.cf":       master,
		"sasl/smtpd.conf": fmt.Sprintf(postfixSASL, accounts),
	}
	for name, content := range files {
		if _, err := write(env, name, content, 0o644); err != nil {
			return err
		}
	}
	owner, err := user.Lookup("postfix")
	if err != nil {
		return fmt.Errorf("looking for Postfix's user: %w", err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	for _, name := range []string{"data", "spool"} {
		if err := os.MkdirAll(filepath.Join(env.Dir, name), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chown(filepath.Join(env.Dir, "data"), uid, -1); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "saslpasswd2", "-p", "-c", "-f", accounts, "-u", env.Name, env.Username)
	command.Stdin = strings.NewReader(env.Password)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("making the SASL account: %w: %s", err, bytes.TrimSpace(output))
	}
	return os.Chown(accounts, uid, -1)
}
