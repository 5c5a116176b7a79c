package dsn

import (
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

func TestAdvice(t *testing.T) {
	for _, c := range []struct{ diagnostic, want string }{
		{"550 5.1.1 no such user", "There is no such address there, or no longer. Check how it is spelt."},
		{"553 5.1.3 syntax", "There is no such address there, or no longer. Check how it is spelt."},
		{"550 5.1.10 null MX", "The domain of the address takes no mail, or does not exist. Check how it is spelt."},
		{"550 5.4.4 no route", "The domain of the address takes no mail, or does not exist. Check how it is spelt."},
		{"550 5.2.1 disabled", "The mailbox is closed. Reach the recipient in another way."},
		{"452 4.2.2 full", "The mailbox is full. Send the message again when the recipient has made room."},
		{"552 5.3.4 too big", "The message is too large for them. Send less at a time, or a link."},
		{"554 5.4.6 loop", "The message goes in circles. The administrator of the recipient's domain must mend that."},
		{"553 5.6.7 no SMTPUTF8", "A system on the way cannot carry addresses in this script. Use another address of the recipient, if there is one."},
		{"554 5.6.3 no 8BITMIME", "A system on the way cannot carry a message of this form. Send it in a simpler one."},
		{"550 5.7.1 spam", "It was refused by a rule; the words above say by which. Sending it again unchanged will not help."},
		{"451 4.3.0 busy", "The trouble may pass. Send it again later if it still matters."},
		{"554 no", "Sending it again unchanged will not help."},
	} {
		r := Recipient{Action: Failed, Diagnostic: c.diagnostic}
		r.Status = r.status()
		if got := r.advice(); got != c.want {
			t.Errorf("%s: %s", c.diagnostic, got)
		}
	}
}

// Whose words they are is said only where they are a reply.
func TestWhoSaidIt(t *testing.T) {
	for _, c := range []struct{ diagnostic, remote, want string }{
		{"550 no", "mx.example", "    mx.example said: 550 no\r\n"},
		{"550 no", "", "    550 no\r\n"},
		{"connection refused", "mx.example", "    connection refused\r\n"},
		{"550 no", "mx example\r\n", "    550 no\r\n"},
	} {
		n := failure()
		n.Recipients[0].Diagnostic, n.Recipients[0].RemoteMTA = c.diagnostic, c.remote
		if p := parseBack(t, compose(t, n).Data); !strings.Contains(p.text, ">\r\n"+c.want) {
			t.Errorf("no %q in %s", c.want, p.text)
		}
	}
}

// More recipients than a person reads are counted, and the delivery report has all.
func TestManyRecipients(t *testing.T) {
	n := failure()
	n.Recipients = nil
	for i := range 1000 {
		action := Failed
		if i%2 == 1 {
			action = Delayed
		}
		n.Recipients = append(n.Recipients, Recipient{Address: "b@example.net", Notify: "FAILURE,DELAY", Action: action, Status: smtp.EnhancedCode{4, 0, 0}})
	}
	p := parseBack(t, compose(t, n).Data)
	if got := strings.Count(p.text, "<b@example.net>"); got != maxExplained || !strings.Contains(p.text, "And 900 more recipients, named in the delivery report below.") {
		t.Errorf("%d recipients in %s", got, p.text)
	}
	if len(p.recipients) != 1000 {
		t.Errorf("%d recipients in the delivery report", len(p.recipients))
	}
}

func TestSubjectOfTheMessage(t *testing.T) {
	for _, c := range []struct{ header, want string }{
		{"Subject: plain\r\n", "plain"},
		{"subject :folded\r\n over\r\n\tlines\r\nX: y\r\n", "folded over lines"},
		{"X: y\r\nSUBJECT:=?iso-8859-1?q?Gr=FC=DFe?=\r\n", "Grüße"},
		{"Subject: =?utf-8?b?DQpCY2M6IHg=?=\r\n", "Bcc: x"},
		{"Subject: =?x-unknown?q?a?=\r\n", "=?x-unknown?q?a?="},
		{"Subject: " + strings.Repeat("x", 1000) + "\r\n", strings.Repeat("x", maxSubject-3) + "..."},
		{"Subject: first\r\nSubject: second\r\n", "first"},
		{"Subjects: x\r\n", ""},
		{"", ""},
	} {
		if got := subjectOf([]byte(c.header)); got != c.want {
			t.Errorf("%q: %q, want %q", c.header, got, c.want)
		}
	}
}

func TestMessageIDOfTheMessage(t *testing.T) {
	for _, c := range []struct{ header, want string }{
		{"Message-ID: <a@b>\r\n", "<a@b>"},
		{"message-id:\r\n <a@b> \r\n", "<a@b>"},
		{"Message-ID: a@b\r\n", ""},
		{"Message-ID: <a@b> <c@d>\r\n", ""},
		{"Message-ID: <a b>\r\n", ""},
		{"Message-ID: <ü@b>\r\n", ""},
		{"Message-ID: <>\r\n", ""},
		{"Message-ID: <" + strings.Repeat("x", 400) + ">\r\n", ""},
		{"Subject: x\r\n", ""},
	} {
		if got := messageIDOf([]byte(c.header)); got != c.want {
			t.Errorf("%q: %q, want %q", c.header, got, c.want)
		}
	}
}
