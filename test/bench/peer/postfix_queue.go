package peer

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
)

// postfixQueueMain is what Postfix's tuning guide (TUNING_README) says for a
// server that only relays: connections to the relay are kept, those under TLS
// too; as many at once from the beginning as the relay takes from smtpwall; and
// no pause while more arrives than is delivered.
const postfixQueueMain = `default_destination_concurrency_limit = 20
initial_destination_concurrency = 20
smtp_tls_connection_reuse = yes
in_flow_delay = 0
`

// postfixQueueMaster is the process that TLS connections are kept in, and a
// second listener whose messages are put on hold, which is the cheapest way to
// keep: nothing is tried and nothing noted beside the message.
const postfixQueueMaster = `tlsproxy unix - - n - 0 tlsproxy
%s inet n - n - - smtpd
    -o smtpd_recipient_restrictions=check_client_access,static:hold
`

// startPostfixQueue runs Postfix as a server that only relays, tuned for that.
func startPostfixQueue(ctx context.Context, env Environment) (*Running, error) {
	running, err := startPostfix(ctx, env, postfixSetup{main: postfixQueueMain, held: true})
	if err != nil {
		return nil, err
	}
	running.Queues = true
	running.free = func(ctx context.Context) error { return postfixCommand(ctx, env, "postsuper", "-H", "ALL") }
	running.flush = func(ctx context.Context) error { return postfixCommand(ctx, env, "postqueue", "-f") }
	running.Note = "tuned for relaying: 20 connections from the beginning, kept under TLS, in_flow_delay = 0"
	return running, nil
}

func postfixCommand(ctx context.Context, env Environment, name string, args ...string) error {
	program, err := lookUp(name)
	if err != nil {
		return err
	}
	output, err := exec.CommandContext(ctx, program, append([]string{"-c", env.Dir}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(output))
	}
	return nil
}
