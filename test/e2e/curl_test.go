package e2e_test

import (
	"testing"
)

// curl gives the arguments of a submission by curl, which sends a file as it is.
func (b *bed) curl(l letter, url string, args ...string) []string {
	b.t.Helper()
	path := b.write(l.marker+".eml", string(l.text), 0o644, siteUID)
	return append([]string{"--silent", "--show-error", "--verbose", "--max-time", "60", "--cacert", b.localCA(),
		"--url", url + "/client.example", "--mail-from", sender, "--mail-rcpt", recipient, "--upload-file", path}, args...)
}

func TestCurl(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: accountConfig(t)})
	local, account := trace{"local process", "ESMTPS"}, trace{"account", "ESMTPSA"}
	login := []string{"--ssl-reqd", "--user", accountName + ":" + accountPassword}
	for _, c := range []struct {
		name, url string
		args      []string
		want      trace
	}{
		{"submission", "smtp://localhost:587", []string{"--ssl-reqd"}, local},
		{"submission by address", "smtp://127.0.0.1:587", []string{"--ssl-reqd"}, local},
		{"submission by IPv6 address", "smtp://[::1]:587", []string{"--ssl-reqd"}, local},
		{"submissions", "smtps://localhost:465", nil, local},
		{"submissions by IPv6 address", "smtps://[::1]:465", nil, local},
		{"alternate", "smtp://localhost:2525", []string{"--ssl-reqd"}, local},
		{"alternate in clear", "smtp://[::1]:2525", nil, trace{"local process", "ESMTP"}},
		{"AUTH PLAIN", "smtp://localhost:587", append(login, "--login-options", "AUTH=PLAIN"), account},
		{"AUTH LOGIN", "smtps://localhost:465", append(login, "--login-options", "AUTH=LOGIN"), account},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLetter()
			mustSucceed(t, b.program("curl", b.curl(l, c.url, c.args...)...))
			b.arrived(t, l, c.want)
		})
	}
}

// TestBigMessage: 25 MiB, in both ways that TLS starts, and byte for byte.
func TestBigMessage(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	for _, c := range []struct {
		url  string
		want trace
	}{
		{"smtp://localhost:587", trace{"local process", "ESMTPS"}},
		{"smtp://localhost:2525", trace{"local process", "ESMTPS"}},
	} {
		t.Run(c.url, func(t *testing.T) {
			l := bigLetter(25 << 20)
			mustSucceed(t, b.program("curl", b.curl(l, c.url, "--ssl-reqd")...))
			b.arrived(t, l, c.want)
			b.relay.TakeMessages()
		})
	}
}
