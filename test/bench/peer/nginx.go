package peer

import (
	"context"
	"fmt"
	"os/exec"
)

// The mail module speaks clear text to the relay, so the stream module of the
// same nginx puts its connections under TLS. The authentication server that the
// mail module asks is the http module of the same nginx: the cheapest there is.
const nginxConfig = `load_module /usr/lib/nginx/modules/ngx_mail_module.so;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user nobody nogroup;
worker_processes 2;
daemon off;
pid %[9]s/nginx.pid;
error_log stderr crit;
events { worker_connections 8192; }
mail {
    server_name %[5]s;
    auth_http %[3]s/auth;
    proxy_smtp_auth on;
    xclient off;
    proxy_timeout 120s;
    smtp_capabilities PIPELINING 8BITMIME "SIZE 67108864" ENHANCEDSTATUSCODES;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate %[6]s;
    ssl_certificate_key %[7]s;
    server { listen %[1]s; protocol smtp; starttls on; smtp_auth plain login; }
    server { listen %[10]s ssl; protocol smtp; smtp_auth plain login; }
    server { listen %[2]s; protocol smtp; smtp_auth none plain login; }
}
stream {
    server {
        listen %[4]s;
        proxy_pass %[8]s;
        proxy_timeout 120s;
        proxy_ssl on;
        proxy_ssl_protocols TLSv1.3;
        proxy_ssl_verify on;
        proxy_ssl_verify_depth 2;
        proxy_ssl_trusted_certificate %[11]s;
        proxy_ssl_name %[12]s;
        proxy_ssl_server_name on;
        proxy_ssl_session_reuse off;
    }
}
http {
    access_log off;
    client_body_temp_path %[9]s/body; proxy_temp_path %[9]s/proxy; fastcgi_temp_path %[9]s/fastcgi;
    uwsgi_temp_path %[9]s/uwsgi; scgi_temp_path %[9]s/scgi;
    server {
        listen %[3]s;
        location = /auth {
            add_header Auth-Status OK;
            add_header Auth-Server 127.0.0.1;
            add_header Auth-Port %[13]s;
            return 200 "";
        }
    }
}
`

// startNginx runs nginx's mail proxy.
func startNginx(_ context.Context, env Environment) (*Running, error) {
	program, err := lookUp("nginx")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(5)
	if err != nil {
		return nil, err
	}
	starttls, plain, auth, out, implicit := ports[0], ports[1], ports[2], ports[3], ports[4]
	config, err := write(env, "nginx.conf", fmt.Sprintf(nginxConfig, starttls, plain, auth, out, env.Name,
		env.Certificate, env.Key, env.RelayTLS, env.Dir, implicit, env.RelayCA, env.RelayName, portOf(out)), 0o644)
	if err != nil {
		return nil, err
	}
	process, err := daemon(env, exec.Command(program, "-p", env.Dir, "-c", config, "-e", "stderr"))
	if err != nil {
		return nil, err
	}
	return &Running{
		STARTTLS: starttls, Implicit: implicit, Plain: plain, PID: process.pid, stop: process.stop,
		Note: "the client's own AUTH passed on; plain in: no AUTH out",
	}, nil
}
