package auth

import "bytes"

// plainServer is PLAIN (RFC 4616).
type plainServer struct{ said claim }

func (p *plainServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return []byte{}, false, nil // RFC 4954 section 4: an empty challenge asks for the response
	}
	// message = [authzid] NUL authcid NUL passwd (section 2); the parts have no NUL
	authzid, rest, first := bytes.Cut(response, []byte{0})
	name, password, second := bytes.Cut(rest, []byte{0})
	if !first || !second || len(authzid) > maxName || !isField(name, maxName) || !isField(password, maxPassword) {
		return nil, true, ErrMalformed
	}
	p.said = claim{authzid: authzid, name: name, password: password}
	return nil, true, nil
}

func (p *plainServer) claim() claim { return p.said }

// isField tells whether a name or a password is there, is not too long and has
// no NUL.
func isField(octets []byte, most int) bool {
	return len(octets) > 0 && len(octets) <= most && bytes.IndexByte(octets, 0) < 0
}
