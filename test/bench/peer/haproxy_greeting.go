package peer

import (
	"context"
	"fmt"
	"os/exec"
)

const haproxyGreetingConfig = `global
    nbthread 2
    maxconn 4000
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode tcp
    timeout connect 10s
    timeout client 120s
    timeout server 120s
listen submissions
    bind %[1]s ssl crt %[3]s
    server banner %[2]s
`

// startHAProxyGreeting runs HAProxy that takes TLS off, before somebody who says
// a banner in clear: it has no SMTP of its own to greet with.
func startHAProxyGreeting(_ context.Context, env Environment) (*Running, error) {
	program, err := lookUp("haproxy")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	config, err := write(env, "haproxy.cfg", fmt.Sprintf(haproxyGreetingConfig, ports[0], env.Banner, env.Certificate), 0o644)
	if err != nil {
		return nil, err
	}
	process, err := daemon(env, exec.Command(program, "-db", "-f", config))
	if err != nil {
		return nil, err
	}
	return &Running{Implicit: ports[0], PID: process.pid, stop: process.stop, Note: "a connection to the banner's sender for each; that one's own time is not counted"}, nil
}
