package testkit

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// challenge sends a line and returns the decoded text of the 334 to it.
func (c *client) challenge(line string) string {
	c.t.Helper()
	got := c.expect(line, "334 ")
	text, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(got, "334 "))
	if err != nil {
		c.t.Fatalf("challenge %q: %v", got, err)
	}
	return string(text)
}

func TestRelayMechanisms(t *testing.T) {
	login := map[string]func(c *client, password, want string){
		"PLAIN with initial response": func(c *client, password, want string) {
			c.expect("AUTH PLAIN "+encode("\x00user\x00"+password), want)
		},
		"PLAIN": func(c *client, password, want string) {
			c.challenge("AUTH PLAIN")
			c.expect(encode("\x00user\x00"+password), want)
		},
		"LOGIN": func(c *client, password, want string) {
			if got := c.challenge("AUTH LOGIN"); got != "Username:" {
				c.t.Errorf("challenge %q", got)
			}
			c.challenge(encode("user"))
			c.expect(encode(password), want)
		},
		"CRAM-MD5": func(c *client, password, want string) {
			mac := hmac.New(md5.New, []byte(password))
			mac.Write([]byte(c.challenge("AUTH CRAM-MD5")))
			c.expect(encode("user "+hex.EncodeToString(mac.Sum(nil))), want)
		},
		"SCRAM-SHA-256": loginSCRAM,
	}
	for name, try := range login {
		t.Run(name, func(t *testing.T) {
			relay := start(t, RelayOptions{Username: "user", Password: "secret", AuthWithoutTLS: true, RequireAuth: true})
			c := dial(t, relay.Addr())
			c.expect("", "220")
			c.expect("EHLO me.test", "250")
			try(c, "wrong", "535")
			c.expect("MAIL FROM:<a@x.test>", "530")
			try(c, "secret", "235")
			c.expect("MAIL FROM:<a@x.test>", "250")
			if got := relay.Counters(); got.Auths != 1 || got.AuthFailures != 1 {
				t.Errorf("counters %+v", got)
			}
		})
	}
}

func loginSCRAM(c *client, password, want string) {
	mechanism, err := scram.SHA256.NewClient("user", password, "")
	if err != nil {
		c.t.Fatal(err)
	}
	conversation := mechanism.NewConversation()
	first, _ := conversation.Step("")
	proof, err := conversation.Step(c.challenge("AUTH SCRAM-SHA-256 " + encode(first)))
	if err != nil {
		c.t.Fatal(err)
	}
	if want != "235" {
		c.expect(encode(proof), want)
		return
	}
	if _, err := conversation.Step(c.challenge(encode(proof))); err != nil {
		c.t.Fatalf("the relay's signature: %v", err)
	}
	c.send("\r\n") // the empty answer to the server's final message
	c.expect("", want)
}

func TestRelayAuthIsCancelled(t *testing.T) {
	relay := start(t, RelayOptions{Username: "user", AuthWithoutTLS: true, Mechanisms: []string{"LOGIN"}})
	c := dial(t, relay.Addr())
	c.expect("", "220")
	c.expect("EHLO me.test", "250")
	c.expect("AUTH PLAIN AA==", "504")
	c.challenge("AUTH LOGIN")
	c.expect("*", "501")
}
