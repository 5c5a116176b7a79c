package testkit

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/xdg-go/scram"
)

// scramIterations is the least that clients accept (RFC 7677 section 4).
const scramIterations = 4096

var (
	errBadCredential = errors.New("wrong name or password")
	errCancelled     = errors.New("exchange cancelled")
)

// prepareSCRAM derives the stored key once: the relay's own work at each login
// is a few hashes.
func (r *Relay) prepareSCRAM() error {
	if r.opts.Username == "" {
		return nil
	}
	client, err := scram.SHA256.NewClient(r.opts.Username, r.opts.Password, "")
	if err != nil {
		return fmt.Errorf("preparing the stand-in relay's account: %w", err)
	}
	stored := client.GetStoredCredentials(scram.KeyFactors{Salt: rand.Text(), Iters: scramIterations})
	r.scram, err = scram.SHA256.NewServer(func(name string) (scram.StoredCredentials, error) {
		if name != r.opts.Username {
			return scram.StoredCredentials{}, errBadCredential
		}
		return stored, nil
	})
	return err
}

// authenticate runs an exchange (RFC 4954 section 4).
func (s *session) authenticate(arg, line string) effect {
	mechanism, initial, _ := strings.Cut(arg, " ")
	mechanism = strings.ToUpper(mechanism)
	switch {
	case s.hello != "EHLO" || !s.offersAuth():
		return s.refuse("502 5.5.1 AUTH not offered")
	case s.authUser != "" || s.transaction != nil:
		return s.refuse("503 5.5.1 not now")
	case !slices.Contains(s.relay.opts.Mechanisms, mechanism):
		return s.refuse("504 5.5.4 mechanism not offered")
	}
	err := s.exchange(mechanism, initial)
	switch {
	case errors.Is(err, errCancelled):
		return s.refuse("501 5.7.0 cancelled")
	case errors.Is(err, errBadCredential):
		s.relay.counters.authFailures.Add(1)
		return s.refuse("535 5.7.8 authentication failed")
	case err != nil:
		return over
	}
	result := s.step(StepAuth, line, "235 2.7.0 Authentication successful")
	if result == proceed {
		s.relay.counters.auths.Add(1)
		s.authUser = s.relay.opts.Username
	}
	return result
}

func (s *session) exchange(mechanism, initial string) error {
	switch mechanism {
	case "PLAIN":
		return s.authPlain(initial)
	case "LOGIN":
		return s.authLogin(initial)
	case "CRAM-MD5":
		return s.authCRAM()
	case "SCRAM-SHA-256":
		return s.authSCRAM(initial)
	}
	return errBadCredential
}

func (s *session) authPlain(initial string) error {
	response, err := s.response(initial, "")
	if err != nil {
		return err
	}
	part := strings.Split(response, "\x00")
	if len(part) != 3 {
		return errBadCredential
	}
	return s.compare(part[1], part[2])
}

func (s *session) authLogin(initial string) error {
	name, err := s.response(initial, "Username:")
	if err != nil {
		return err
	}
	password, err := s.response("", "Password:")
	if err != nil {
		return err
	}
	return s.compare(name, password)
}

func (s *session) authCRAM() error {
	challenge := "<" + rand.Text() + "@" + s.relay.opts.Name + ">"
	response, err := s.response("", challenge)
	if err != nil {
		return err
	}
	name, digest, _ := strings.Cut(response, " ")
	mac := hmac.New(md5.New, []byte(s.relay.opts.Password))
	mac.Write([]byte(challenge))
	if name != s.relay.opts.Username || digest != hex.EncodeToString(mac.Sum(nil)) {
		return errBadCredential
	}
	return nil
}

// authSCRAM ends with the client's empty answer to the server's final message.
func (s *session) authSCRAM(initial string) error {
	conversation := s.relay.scram.NewConversation()
	challenge := ""
	for !conversation.Done() {
		response, err := s.response(initial, challenge)
		if err != nil {
			return err
		}
		initial = ""
		if challenge, err = conversation.Step(response); err != nil {
			return errBadCredential
		}
	}
	if !conversation.Valid() {
		return errBadCredential
	}
	_, err := s.response("", challenge)
	return err
}

func (s *session) compare(name, password string) error {
	if name != s.relay.opts.Username || password != s.relay.opts.Password {
		return errBadCredential
	}
	return nil
}

// response decodes the initial response if there is one ("=" is the empty one),
// else sends the challenge and reads the client's line.
func (s *session) response(initial, challenge string) (string, error) {
	encoded := initial
	if initial == "" {
		s.w.WriteString("334 " + base64.StdEncoding.EncodeToString([]byte(challenge)) + "\r\n")
		line, err := s.readLine()
		if err != nil {
			return "", err
		}
		if line == "*" {
			return "", errCancelled
		}
		encoded = line
	}
	if encoded == "=" {
		return "", nil
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", errBadCredential
	}
	return string(decoded), nil
}
