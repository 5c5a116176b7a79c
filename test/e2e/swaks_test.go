package e2e_test

import (
	"strings"
	"testing"
)

// swaks gives the arguments of a submission by swaks, which ends the last line itself.
func (b *bed) swaks(l letter, args ...string) []string {
	b.t.Helper()
	path := b.write(l.marker+".eml", strings.TrimSuffix(string(l.unix()), "\n"), 0o644, siteUID)
	return append([]string{"--from", sender, "--to", recipient, "--ehlo", "client.example",
		"--data", "@" + path, "--timeout", "20"}, args...)
}

func TestSwaks(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: accountConfig(t)})
	verify := []string{"--tls-verify", "--tls-ca-path", b.localCA()}
	login := []string{"--auth-user", accountName, "--auth-password", accountPassword, "--auth"}
	for _, c := range []struct {
		name string
		args []string
		want trace
	}{
		{"submission in clear", []string{"--server", "127.0.0.1:587"}, trace{"local process", "ESMTP"}},
		{"submission with STARTTLS", append(verify, "--server", "localhost:587", "--tls"), trace{"local process", "ESMTPS"}},
		{"submissions", append(verify, "--server", "localhost:465", "--tls-on-connect"), trace{"local process", "ESMTPS"}},
		{"alternate", []string{"--server", "127.0.0.1:2525", "--tls"}, trace{"local process", "ESMTPS"}},
		{"AUTH PLAIN", append(login, "PLAIN", "--server", "127.0.0.1:587", "--tls"), trace{"account", "ESMTPSA"}},
		{"AUTH LOGIN", append(login, "LOGIN", "--server", "127.0.0.1:465", "--tls-on-connect"), trace{"account", "ESMTPSA"}},
		{"HELO", []string{"--server", "127.0.0.1:2525", "--protocol", "SMTP"}, trace{"local process", "SMTP"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLetter()
			said := mustSucceed(t, b.program("swaks", b.swaks(l, c.args...)...))
			message, event := b.arrived(t, l, c.want)
			if !strings.Contains(said, "[smtpwall "+event.Txn+"]") || !strings.Contains(said, "queued as R") {
				t.Errorf("the last reply carries not both the relay's text and our id:\n%s", said)
			}
			if len(message.Recipients) != 1 || message.Recipients[0].Path != recipient || message.ReversePath != sender {
				t.Errorf("the relay has the envelope %s -> %v", message.ReversePath, message.Recipients)
			}
			uid, known := event.PeerUID.Get()
			if !known || uid != siteUID || event.PeerUser != "www-data" {
				t.Errorf("the event says %+v", event)
			}
			if secured := strings.HasPrefix(c.want.protocol, "ESMTPS"); secured != (event.TLSVersion != "") {
				t.Errorf("the event says TLS %q", event.TLSVersion)
			}
		})
	}
}
