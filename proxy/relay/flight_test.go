package relay

import (
	"testing"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

func TestParameters(t *testing.T) {
	params := smtp.MailParams{Body: "8BITMIME", UTF8: true, Ret: "HDRS", EnvID: "QQ314159"}
	rcpt := smtp.Recipient{Address: "a@x.test", Params: smtp.RcptParams{Notify: "NEVER", ORcpt: "rfc822;a@x.test"}}
	all := Capabilities{Capabilities: smtp.Capabilities{EightBitMIME: true, UTF8: true, DSN: true}}
	if got := string(appendMail(nil, "", params, all)); got != "MAIL FROM:<> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159\r\n" {
		t.Error(got)
	}
	if got := string(appendRcpt(nil, rcpt, all)); got != "RCPT TO:<a@x.test> NOTIFY=NEVER ORCPT=rfc822;a@x.test\r\n" {
		t.Error(got)
	}
	if got := string(appendRcpt(nil, rcpt, Capabilities{})); got != "RCPT TO:<a@x.test>\r\n" {
		t.Error(got)
	}
}
