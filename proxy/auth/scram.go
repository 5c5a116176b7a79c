package auth

import (
	"crypto/sha256"
	"slices"

	"github.com/xdg-go/scram"
)

// scramLookup answers for the accounts with SCRAM keys, and for names without
// any in the same manner.
type scramLookup struct {
	keys   map[string]*scramKeys
	shapes []*scramKeys // the accounts' keys in a fixed order: their iterations and lengths of salt are lent to unknown names
	secret []byte
	server *scram.Server
}

func newSCRAMLookup(entries map[string]*entry, secret []byte) *scramLookup {
	l := &scramLookup{keys: map[string]*scramKeys{}, secret: secret}
	var names []string
	for name, e := range entries {
		if e.scram != nil {
			names, l.keys[name] = append(names, name), e.scram
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	for _, name := range names {
		l.shapes = append(l.shapes, l.keys[name])
	}
	l.server, _ = scram.SHA256.NewServer(l.credentials) // has no way to fail
	return l
}

// credentials never fails: for an unknown name it makes up what an account would
// have, the same each time, and the proof at the end fits nothing (RFC 5802
// section 9 leaves the hiding of names to the server). Both are made for every
// name, so that they take the same time.
func (l *scramLookup) credentials(name string) (scram.StoredCredentials, error) {
	name = string(prepare([]byte(name)))
	made := l.makeUp(name)
	if known := l.keys[name]; known != nil {
		made = known
	}
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(made.salt), Iters: made.iterations},
		StoredKey:  made.storedKey,
		ServerKey:  made.serverKey,
	}, nil
}

func (l *scramLookup) makeUp(name string) *scramKeys {
	shape := l.shapes[choose(l.secret, name, len(l.shapes))]
	salt := slices.Concat(mac(l.secret, []byte("salt 1"), []byte(name)), mac(l.secret, []byte("salt 2"), []byte(name)))
	return &scramKeys{
		iterations: shape.iterations,
		salt:       salt[:len(shape.salt)], // maxSalt is two digests
		storedKey:  randomOctets(sha256.Size),
		serverKey:  randomOctets(sha256.Size),
	}
}

func (l *scramLookup) newServer() *scramServer {
	return &scramServer{conversation: l.server.NewConversation(), lookup: l}
}

// scramServer is SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding.
// What the library says of a failure repeats the client's words, so it is
// dropped.
type scramServer struct {
	conversation *scram.ServerConversation
	lookup       *scramLookup
	step         scramStep
}

type scramStep uint8

const (
	scramFirst scramStep = iota // awaiting client-first-message
	scramFinal                  // awaiting client-final-message
	scramEmpty                  // awaiting the empty response to server-final-message
)

func (s *scramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if len(response) > 2*maxPassword {
		return nil, true, ErrMalformed
	}
	switch s.step {
	case scramFirst:
		if response == nil {
			return []byte{}, false, nil
		}
		first, err := s.conversation.Step(string(response))
		if err != nil || len(s.conversation.Username()) > maxName {
			return nil, true, ErrMalformed
		}
		s.step = scramFinal
		return []byte(first), false, nil
	case scramFinal:
		final, err := s.conversation.Step(string(response))
		if err != nil && final == "" { // without a server-error: it could not be read
			return nil, true, ErrMalformed
		}
		if err != nil || !s.proven() {
			return nil, true, ErrCredentials
		}
		s.step = scramEmpty
		return []byte(final), false, nil // 235 has no room for it (RFC 4954 section 4)
	}
	if len(response) > 0 {
		return nil, true, ErrMalformed
	}
	return nil, true, nil
}

// proven tells whether the proof was right and of a name that we have. The
// second follows from the first, but is what must never fail.
func (s *scramServer) proven() bool {
	name := string(prepare([]byte(s.conversation.Username())))
	return s.conversation.Valid() && s.lookup.keys[name] != nil
}

func (s *scramServer) claim() claim {
	return claim{
		authzid: []byte(s.conversation.AuthzID()),
		name:    []byte(s.conversation.Username()),
		proven:  s.step == scramEmpty && s.proven(),
	}
}
