package auth

// loginServer is LOGIN (draft-murchison-sasl-login-00): two questions, whose
// words clients compare. A client may put the name into the initial response.
type loginServer struct {
	asked bool // for the name
	name  []byte
	said  claim
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil && !l.asked:
		l.asked = true
		return []byte("Username:"), false, nil
	case l.name == nil:
		if !isField(response, maxName) {
			return nil, true, ErrMalformed
		}
		l.asked, l.name = true, append([]byte(nil), response...) // response is overwritten
		return []byte("Password:"), false, nil
	}
	if !isField(response, maxPassword) {
		clear(l.name)
		return nil, true, ErrMalformed
	}
	l.said = claim{name: l.name, password: response}
	return nil, true, nil
}

func (l *loginServer) claim() claim { return l.said }
