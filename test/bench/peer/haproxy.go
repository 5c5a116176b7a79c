package peer

import (
	"context"
	"fmt"
	"os/exec"
)

const haproxyConfig = `global
    nbthread 2
    maxconn 4000
    ssl-default-server-options no-tls-tickets
    ssl-default-bind-options no-sslv3
defaults
    mode tcp
    timeout connect 10s
    timeout client 120s
    timeout server 120s
listen submissions
    bind %[1]s ssl crt %[3]s
    server relay %[4]s ssl verify required ca-file %[5]s sni str(%[6]s) verifyhost %[6]s no-ssl-reuse
listen plain
    bind %[2]s
    server relay %[4]s ssl verify required ca-file %[5]s sni str(%[6]s) verifyhost %[6]s no-ssl-reuse
`

// startHAProxy runs HAProxy with TLS on both sides. It speaks no SMTP: clients
// begin with the TLS handshake, and their own AUTH reaches the relay.
func startHAProxy(_ context.Context, env Environment) (*Running, error) {
	program, err := lookUp("haproxy")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	config, err := write(env, "haproxy.cfg", fmt.Sprintf(haproxyConfig,
		ports[0], ports[1], env.Certificate, env.RelayTLS, env.RelayCA, env.RelayName), 0o644)
	if err != nil {
		return nil, err
	}
	process, err := daemon(env, exec.Command(program, "-db", "-f", config))
	if err != nil {
		return nil, err
	}
	return &Running{
		Implicit: ports[0], Plain: ports[1], ClientAuth: true, PID: process.pid, stop: process.stop,
		Note: "no SMTP: implicit TLS in, the client's own AUTH passed through",
	}, nil
}
