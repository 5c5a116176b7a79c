package auth

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/emersion/go-sasl"
)

// maxLine is the longest line of an exchange in base64 (RFC 4954 section 4).
const maxLine = 12288

// Decode turns one line of an exchange, without its CRLF, into octets. The line
// is overwritten. "=" is the empty initial response, and an empty line an empty
// response; "*" is ErrCancelled (RFC 4954 section 4).
func Decode(line []byte) ([]byte, error) {
	defer clear(line)
	switch {
	case len(line) > maxLine:
		return nil, ErrTooLong
	case string(line) == "*":
		return nil, ErrCancelled
	case string(line) == "=" || len(line) == 0:
		return []byte{}, nil
	}
	for _, c := range line {
		if c == '\r' || c == '\n' { // the decoder would pass them by
			return nil, ErrMalformed
		}
	}
	response := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Strict().Decode(response, line)
	if err != nil {
		clear(response)
		return nil, ErrMalformed
	}
	return response[:n], nil
}

// mechanism is the server's side of one SASL mechanism. It only reads the
// client's responses and says what they claim; the claim may point into the last
// response.
type mechanism interface {
	sasl.Server
	claim() claim
}

// claim is what a client said in an exchange.
type claim struct {
	authzid  []byte // identity to act as; empty for name itself
	name     []byte
	password []byte
	proven   bool // the mechanism itself checked name, by SCRAM or a certificate
}

// Exchange is one AUTH command from the first line to the last.
type Exchange struct {
	mechanism   mechanism
	store       *Store       // nil: nothing is checked
	certificate *Certificate // of EXTERNAL
	initial     []byte
	started     bool
	over        bool
	identity    string
}

// Begin starts an exchange. initial is the decoded initial response, nil if the
// client sent none. An unknown mechanism is ErrUnsupported.
func (s *Store) Begin(mech string, initial []byte) (*Exchange, error) {
	x := &Exchange{store: s, initial: initial}
	switch name := strings.ToUpper(mech); {
	case len(s.decoys) == 0:
	case name == sasl.Plain:
		x.mechanism = &plainServer{}
	case name == sasl.Login:
		x.mechanism = &loginServer{}
	case name == scramName && s.scram != nil:
		x.mechanism = s.scram.newServer()
	}
	if x.mechanism == nil {
		clear(initial)
		return nil, ErrUnsupported
	}
	return x, nil
}

// Next takes the exchange one step on. Call it with nil first, then with each
// decoded response, until done or an error. While neither, challenge (perhaps
// empty) goes to the client in a 334 reply. The error is one of this package's;
// the exchange is over then. It may block as Store.Verify does.
//
// response is overwritten.
func (x *Exchange) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	if !x.started {
		x.started = true
		if response == nil {
			response, x.initial = x.initial, nil
		}
	}
	defer clear(response)
	if x.over {
		return nil, true, ErrMalformed
	}
	challenge, done, err = x.mechanism.Next(response)
	if err == nil && done {
		err = x.finish(ctx, x.mechanism.claim())
	}
	if err != nil || done {
		x.over = true
		return nil, true, err
	}
	return challenge, false, nil
}

// Identity is the account, after Next was done without an error; else empty, and
// always empty for AcceptAny.
func (x *Exchange) Identity() string { return x.identity }

// Login is the account and how it was proven; zero where Identity is empty.
func (x *Exchange) Login() Login {
	login := Login{Account: x.identity}
	if x.identity != "" && x.certificate != nil {
		login.Certificate = x.certificate.Fingerprint
	}
	return login
}

func (x *Exchange) finish(ctx context.Context, c claim) error {
	defer clear(c.name) // LOGIN's is a copy
	if x.store == nil {
		return nil
	}
	// No account may act as another (RFC 4616 section 2, RFC 5802 section 5.1).
	if len(c.authzid) > 0 && string(c.authzid) != string(c.name) {
		return ErrCredentials
	}
	name := string(c.name)
	if !c.proven {
		if err := x.store.Verify(ctx, name, c.password); err != nil {
			return err
		}
	}
	x.identity = string(prepare(c.name))
	return nil
}
