package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"strings"

	"github.com/emersion/go-sasl"
)

// Mechanisms that only AcceptAny has.
const (
	cramMD5Name = "CRAM-MD5"
	xoauth2Name = "XOAUTH2"
)

// AcceptAny is for redirected connections: the client means to log in at
// another server, with a credential that is not for us. It takes any that is
// well formed, checks it against nothing and forgets it; the identity of the
// session is what the kernel says, before and after.
type AcceptAny struct{}

// Mechanisms lists what AUTH may offer, for the EHLO reply: what clients of
// the large providers use. SCRAM is missing since a server without the password
// cannot play it.
func (AcceptAny) Mechanisms() []string {
	return []string{sasl.Plain, sasl.Login, cramMD5Name, xoauth2Name, sasl.OAuthBearer}
}

// Begin starts an exchange; see Store.Begin. Its errors are ErrMalformed and
// ErrUnsupported only.
func (AcceptAny) Begin(mech string, initial []byte) (*Exchange, error) {
	x := &Exchange{initial: initial}
	switch strings.ToUpper(mech) {
	case sasl.Plain:
		x.mechanism = &plainServer{}
	case sasl.Login:
		x.mechanism = &loginServer{}
	case cramMD5Name:
		x.mechanism = &cramMD5Server{}
	case xoauth2Name:
		x.mechanism = &tokenServer{wellFormed: isXOAUTH2}
	case sasl.OAuthBearer:
		x.mechanism = &tokenServer{wellFormed: isOAuthBearer}
	default:
		clear(initial)
		return nil, ErrUnsupported
	}
	return x, nil
}

// cramMD5Server asks the question of CRAM-MD5 (RFC 2195 section 2) and does not
// look at the answer's digest.
type cramMD5Server struct{ asked bool }

func (c *cramMD5Server) Next(response []byte) (challenge []byte, done bool, err error) {
	if !c.asked {
		if response != nil { // the server speaks first
			return nil, true, ErrMalformed
		}
		c.asked = true
		return []byte("<" + rand.Text() + "@smtpwall>"), false, nil
	}
	space := bytes.LastIndexByte(response, ' ')
	if space < 0 || !isField(response[:space], maxName) || !isMD5(response[space+1:]) {
		return nil, true, ErrMalformed
	}
	return nil, true, nil
}

func (c *cramMD5Server) claim() claim { return claim{} }

func isMD5(digits []byte) bool {
	var octets [16]byte
	if len(digits) != hex.EncodedLen(len(octets)) {
		return false
	}
	_, err := hex.Decode(octets[:], digits)
	return err == nil
}

// tokenServer takes the one message of a mechanism with a bearer token.
type tokenServer struct{ wellFormed func(response []byte) bool }

func (t *tokenServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return []byte{}, false, nil
	}
	if !t.wellFormed(response) {
		return nil, true, ErrMalformed
	}
	return nil, true, nil
}

func (t *tokenServer) claim() claim { return claim{} }

// isXOAUTH2: "user=" name ^A "auth=Bearer " token ^A ^A, as Google and Microsoft
// document it.
func isXOAUTH2(response []byte) bool {
	name, found := bytes.CutPrefix(response, []byte("user="))
	name, pairs, cut := bytes.Cut(name, []byte{1})
	return found && cut && isField(name, maxName) && hasBearer(pairs)
}

// isOAuthBearer: gs2-header ^A *(key "=" value ^A) ^A (RFC 7628 section 3.1).
func isOAuthBearer(response []byte) bool {
	header, pairs, cut := bytes.Cut(response, []byte{1})
	authzid, found := bytes.CutPrefix(header, []byte("n,"))
	if !cut || !found || !bytes.HasSuffix(authzid, []byte(",")) {
		return false
	}
	return len(authzid) <= len("a=,")+maxName && hasBearer(pairs)
}

// hasBearer reads key-value pairs, each ended by ^A, and the ^A at their end.
// One must be auth, with a token; what that says is not for us.
func hasBearer(pairs []byte) bool {
	bearer := false
	for {
		pair, rest, cut := bytes.Cut(pairs, []byte{1})
		if !cut {
			return false
		}
		if len(pair) == 0 {
			return bearer && len(rest) == 0
		}
		key, value, found := bytes.Cut(pair, []byte("="))
		if !found {
			return false
		}
		const scheme = "bearer "
		if string(key) == "auth" {
			bearer = len(value) > len(scheme) && bytes.EqualFold(value[:len(scheme)], []byte(scheme))
		}
		pairs = rest
	}
}
