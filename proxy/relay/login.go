package relay

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // CRAM-MD5 is what RFC 2195 says; it runs inside TLS
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// preference is the order that "auto" takes. Inside verified TLS a plain
// password is safe, and a server that offers CRAM-MD5 may still not hold what
// it needs for it, so it comes last.
var preference = []string{"SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5"}

// login proves us to the relay. What the relay repeats of it stays out of errors.
func (p *Pool) login(c *conn) error {
	said := []string{string(p.options.Password())}
	err := p.authenticate(c, func(response string) { said = append(said, response) })
	var r *refusal
	switch {
	case errors.Is(err, smtp.ErrBadReply): // which quotes the line
		return smtp.ErrBadReply
	case errors.As(err, &r) && repeats(r.reply.Text(), said):
		return &refusal{smtp.NewReply(r.reply.Code, r.reply.Enhanced, "(the relay repeats our login)")}
	}
	return err
}

func repeats(text string, said []string) bool {
	return slices.ContainsFunc(said, func(s string) bool { return s != "" && strings.Contains(text, s) })
}

// authenticate is the exchange of RFC 4954 section 4. saying hears what we say.
func (p *Pool) authenticate(c *conn, saying func(string)) error {
	client, err := p.saslClient(c.capabilities.mechanisms)
	if err != nil {
		return err
	}
	mechanism, initial, err := client.Start()
	if err != nil {
		return hideSecret(err)
	}
	line := "AUTH " + mechanism
	if initial != nil {
		response := encodeInitial(initial)
		saying(response)
		line += " " + response
	}
	for {
		reply, err := c.exchange(line)
		if err != nil {
			return err
		}
		switch {
		case reply.Code == 235:
			return nil
		case reply.Code != 334:
			return &refusal{reply}
		}
		challenge, err := base64.StdEncoding.DecodeString(reply.Text())
		if err != nil {
			return errors.New("the relay's SASL challenge is not base64")
		}
		response, err := client.Next(challenge)
		if err != nil {
			_, _ = c.exchange("*") // RFC 4954 section 4: cancel
			return hideSecret(err)
		}
		line = base64.StdEncoding.EncodeToString(response)
		saying(line)
	}
}

// exchange sends one line of a SASL exchange and reads the reply.
func (c *conn) exchange(line string) (smtp.Reply, error) {
	if _, err := io.WriteString(c, line+"\r\n"); err != nil {
		return smtp.Reply{}, err
	}
	reply, err := smtp.ReadReply(c.reader)
	return reply, closedIfEOF(err)
}

// encodeInitial writes an empty initial response as "=" (RFC 4954 section 4).
func encodeInitial(initial []byte) string {
	if len(initial) == 0 {
		return "="
	}
	return base64.StdEncoding.EncodeToString(initial)
}

func (p *Pool) saslClient(offered []string) (sasl.Client, error) {
	wanted := preference
	if p.options.Mechanism != "" && p.options.Mechanism != "auto" {
		wanted = []string{strings.ToUpper(p.options.Mechanism)}
	}
	for _, mechanism := range wanted {
		if slices.Contains(offered, mechanism) {
			return p.newSASLClient(mechanism, p.options.Username, string(p.options.Password()))
		}
	}
	return nil, errNoAuth
}

func (p *Pool) newSASLClient(mechanism, username, password string) (sasl.Client, error) {
	switch mechanism {
	case "PLAIN":
		return sasl.NewPlainClient("", username, password), nil
	case "LOGIN":
		return &loginClient{username: username, password: password}, nil
	case "CRAM-MD5":
		return &cramClient{username: username, password: password}, nil
	case "SCRAM-SHA-256":
		client, err := p.scram()
		if err != nil {
			return nil, errors.New("the relay's user name or password cannot be used with SCRAM-SHA-256 (RFC 4013)")
		}
		return &scramClient{client.NewConversation()}, nil
	}
	return nil, errNoAuth
}

// loginClient answers LOGIN's two prompts in turn. Servers word them in many
// ways, so the words are not looked at (draft-murchison-sasl-login).
type loginClient struct {
	username, password string
	answered           int
}

func (c *loginClient) Start() (string, []byte, error) { return "LOGIN", nil, nil }

func (c *loginClient) Next([]byte) ([]byte, error) {
	c.answered++
	switch c.answered {
	case 1:
		return []byte(c.username), nil
	case 2:
		return []byte(c.password), nil
	}
	return nil, errors.New("the relay asks for more than LOGIN has")
}

// cramClient is RFC 2195: the user name and HMAC-MD5 of the challenge.
type cramClient struct {
	username, password string
	answered           bool
}

func (c *cramClient) Start() (string, []byte, error) { return "CRAM-MD5", nil, nil }

func (c *cramClient) Next(challenge []byte) ([]byte, error) {
	if c.answered {
		return nil, errors.New("the relay asks for more than CRAM-MD5 has")
	}
	c.answered = true
	mac := hmac.New(md5.New, []byte(c.password))
	mac.Write(challenge)
	return []byte(c.username + " " + hex.EncodeToString(mac.Sum(nil))), nil
}

// scramClient is RFC 5802 with SHA-256 (RFC 7677). It verifies the server too.
type scramClient struct{ conversation *scram.ClientConversation }

func (c *scramClient) Start() (string, []byte, error) {
	first, err := c.conversation.Step("")
	return "SCRAM-SHA-256", []byte(first), err
}

func (c *scramClient) Next(challenge []byte) ([]byte, error) {
	if c.conversation.Done() {
		return nil, nil
	}
	response, err := c.conversation.Step(string(challenge))
	return []byte(response), err
}

// hideSecret keeps a library's words out of our logs, in which a server's
// challenge or our response might be quoted.
func hideSecret(error) error { return errors.New("the SASL exchange with the relay failed") }
