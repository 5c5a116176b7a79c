package e2e_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"testing"
)

// msmtpConfig has an account for each way in.
func (b *bed) msmtpConfig() string {
	b.t.Helper()
	text := fmt.Sprintf(`defaults
tls on
tls_trust_file %s
domain client.example
from %s
set_date_header off
set_msgid_header off
account submission
host localhost
port 587
account submissions
host localhost
port 465
tls_starttls off
account alternate
host 127.0.0.1
port 2525
tls off
tls_starttls off
account login
host localhost
port 587
auth plain
user %s
password %s
`, b.localCA(), sender, accountName, accountPassword)
	return b.write("msmtprc", text, 0o600, siteUID)
}

func (b *bed) msmtp(account string, l letter) *exec.Cmd {
	cmd := b.program("msmtp", "--file="+b.msmtpConfig(), "--account="+account, "--", recipient)
	cmd.Stdin = bytes.NewReader(l.unix())
	return cmd
}

func TestMsmtp(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: accountConfig(t)})
	for _, c := range []struct {
		account string
		want    trace
	}{
		{"submission", trace{"local process", "ESMTPS"}},
		{"submissions", trace{"local process", "ESMTPS"}},
		{"alternate", trace{"local process", "ESMTP"}},
		{"login", trace{"account", "ESMTPSA"}},
	} {
		t.Run(c.account, func(t *testing.T) {
			l := newLetter()
			mustSucceed(t, b.msmtp(c.account, l))
			b.arrived(t, l, c.want)
		})
	}
}
