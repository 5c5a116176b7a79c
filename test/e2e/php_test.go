package e2e_test

import (
	"strings"
	"testing"
)

// php prepares a script of testdata, which the site may read.
func (b *bed) script(t testing.TB, name string) string {
	t.Helper()
	return b.write(name, readFile(t, "testdata/"+name), 0o644, siteUID)
}

// TestPHPMail: mail() hands the message to a sendmail, here msmtp.
func TestPHPMail(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	// PHP calls it through a shell.
	sendmail := "msmtp --file=" + b.msmtpConfig() + " --account=submission --read-recipients"
	l := newLetter()
	path := b.write("message.eml", string(l.text), 0o644, siteUID)
	mustSucceed(t, b.program("php", "-d", `sendmail_path="`+sendmail+`"`, "-d", "mail.add_x_header=0", b.script(t, "mail.php"), path))
	// mail() puts To and Subject first, whatever the order was.
	moved := "To: " + recipient + "\r\nSubject: an order\r\n"
	l.text = []byte(strings.Replace(strings.Replace(string(l.text), "To: "+recipient+"\r\n", "", 1), "Subject: an order\r\n", "", 1))
	message := findOne(t, b.relay, l)
	head, found := strings.CutSuffix(l.compare(t, message.Bytes), moved)
	if !found {
		t.Errorf("the message begins with %q", head)
	}
	b.transaction(t, trace{"local process", "ESMTPS"}.check(t, head))
}

func TestPHPSockets(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	for _, way := range []string{"stream", "fsockopen"} {
		t.Run(way, func(t *testing.T) {
			l := newLetter()
			path := b.write(l.marker+".eml", string(l.text), 0o644, siteUID)
			reply := mustSucceed(t, b.program("php", "-d", "openssl.cafile="+b.localCA(), b.script(t, "stream.php"), way, path))
			_, event := b.arrived(t, l, trace{"local process", "ESMTPS"})
			if !strings.Contains(reply, "[smtpwall "+event.Txn+"]") {
				t.Errorf("the reply %q lacks the id %s", reply, event.Txn)
			}
		})
	}
}
