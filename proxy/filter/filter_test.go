package filter

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

const (
	testHeader = "From: a@example.com\r\nSubject: one\r\n two\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n"
	testBody   = "first line\r\nsecond line\r\n"
)

func testMessage() Message {
	return Message{
		ID: "01TEST", HostName: "host.example.com", Helo: "client.example.com", Client: netip.MustParseAddr("192.0.2.7"),
		TLSVersion: "TLS1.3", Account: "webshop",
		Envelope: smtp.Envelope{
			ReversePath: "a@example.com", Params: smtp.MailParams{Size: 77, Body: "8BITMIME"},
			Recipients: []smtp.Recipient{{Address: "b@example.net"}, {Address: "c@example.net", Params: smtp.RcptParams{Notify: "NEVER"}}},
		},
		Header: []byte(testHeader), Body: strings.NewReader(testBody),
	}
}

// check asks, and reads a new body.
func check(t *testing.T, f *Filter, m Message) (verdict Verdict, body string, err error) {
	t.Helper()
	verdict, err = f.Check(context.Background(), m)
	if verdict.Body != nil {
		octets, readErr := io.ReadAll(verdict.Body)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if verdict.Body.Close() != nil || int64(len(octets)) != verdict.BodySize {
			t.Errorf("body of %d octets, said to have %d", len(octets), verdict.BodySize)
		}
		body = string(octets)
	}
	return verdict, body, err
}

func TestWhatAFilterIsTold(t *testing.T) {
	f := newFake(t).start()
	verdict, _, err := check(t, f.filter(nil), testMessage())
	if err != nil || verdict.Action != Accept || verdict.Changed {
		t.Fatalf("verdict %+v, error %v", verdict, err)
	}
	f.listener.Close()
	f.done.Wait()
	want := []packet{
		{'D', "Cj\x00host.example.com\x00v\x00smtpwall\x00{daemon_name}\x00smtpwall\x00{client_name}\x00[192.0.2.7]\x00" +
			"{client_addr}\x00192.0.2.7\x00_\x00[192.0.2.7] [192.0.2.7]\x00"},
		{'C', "[192.0.2.7]\x004\x00\x00192.0.2.7\x00"},
		{'D', "H{tls_version}\x00TLS1.3\x00"},
		{'H', "client.example.com\x00"},
		{'D', "Mi\x0001TEST\x00{mail_addr}\x00a@example.com\x00{auth_authen}\x00webshop\x00{auth_type}\x00SASL\x00"},
		{'M', "<a@example.com>\x00SIZE=77\x00BODY=8BITMIME\x00"},
		{'D', "R{rcpt_addr}\x00b@example.net\x00"},
		{'R', "<b@example.net>\x00"},
		{'D', "R{rcpt_addr}\x00c@example.net\x00"},
		{'R', "<c@example.net>\x00NOTIFY=NEVER\x00"},
		{'L', "From\x00a@example.com\x00"},
		{'L', "Subject\x00one\n two\x00"},
		{'L', "X-Twice\x001\x00"},
		{'L', "X-Twice\x002\x00"},
		{'D', "Ni\x0001TEST\x00"},
		{'N', ""},
		{'B', testBody},
		{'D', "Ei\x0001TEST\x00"},
		{'E', ""},
		{'A', ""},
		{'Q', ""},
	}
	if !slices.Equal(f.told[1:], want) {
		t.Errorf("told\n%q\nwant\n%q", f.told[1:], want)
	}
}
