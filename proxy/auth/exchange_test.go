package auth

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"
)

// beginner is what a session sees of a Store or AcceptAny.
type beginner interface {
	Begin(mech string, initial []byte) (*Exchange, error)
}

// play runs an exchange: the first line is the initial response unless it is
// nil. It returns the challenges.
func play(t testing.TB, b beginner, mech string, lines ...[]byte) (challenges []string, x *Exchange, err error) {
	t.Helper()
	x, err = b.Begin(mech, lines[0])
	if err != nil {
		return nil, nil, err
	}
	var response []byte
	for i := 1; ; i++ {
		challenge, done, err := x.Next(t.Context(), response)
		if err != nil || done {
			return challenges, x, err
		}
		challenges = append(challenges, string(challenge))
		if i == len(lines) {
			return challenges, x, errors.New("the server wants more")
		}
		response = lines[i]
	}
}

// text makes the lines of play; "-" is none at all.
func text(lines ...string) (all [][]byte) {
	for _, line := range lines {
		if line == "-" {
			all = append(all, nil)
			continue
		}
		all = append(all, []byte(line))
	}
	return all
}

func testStore(t testing.TB) *Store {
	return newStore(t, Options{}, account("shop", referenceArgon2, ""), account("user", "", cheapSCRAM))
}

func TestPlainAndLogin(t *testing.T) {
	s := testStore(t)
	long := strings.Repeat("x", maxPassword+1)
	for _, c := range []struct {
		mech       string
		lines      [][]byte
		challenges string
		identity   string
		want       error
	}{
		{"PLAIN", text("\x00shop\x00password"), "[]", "shop", nil},
		{"plain", text("shop\x00shop\x00password"), "[]", "shop", nil},
		{"PLAIN", text("-", "\x00shop\x00password"), `[""]`, "shop", nil},
		{"PLAIN", text("\x00user\x00pencil"), "[]", "user", nil}, // against SCRAM keys
		{"PLAIN", text("other\x00shop\x00password"), "[]", "", ErrCredentials},
		{"PLAIN", text("\x00shop\x00wrong"), "[]", "", ErrCredentials},
		{"PLAIN", text("\x00nobody\x00password"), "[]", "", ErrCredentials},
		{"PLAIN", text("-", ""), `[""]`, "", ErrMalformed},
		{"PLAIN", text(""), "[]", "", ErrMalformed},
		{"PLAIN", text("shop\x00password"), "[]", "", ErrMalformed},
		{"PLAIN", text("\x00shop\x00pass\x00word"), "[]", "", ErrMalformed},
		{"PLAIN", text("\x00\x00password"), "[]", "", ErrMalformed},
		{"PLAIN", text("\x00shop\x00"), "[]", "", ErrMalformed},
		{"PLAIN", text("\x00shop\x00" + long), "[]", "", ErrMalformed},
		{"PLAIN", text("\x00" + long + "\x00password"), "[]", "", ErrMalformed},
		{"PLAIN", text(long + "\x00shop\x00password"), "[]", "", ErrMalformed},
		{"LOGIN", text("-", "shop", "password"), `["Username:" "Password:"]`, "shop", nil},
		{"LOGIN", text("shop", "password"), `["Password:"]`, "shop", nil},
		{"LOGIN", text("-", "shop", "wrong"), `["Username:" "Password:"]`, "", ErrCredentials},
		{"LOGIN", text("-", "", "password"), `["Username:"]`, "", ErrMalformed},
		{"LOGIN", text("-", "-", "password"), `["Username:"]`, "", ErrMalformed},
		{"LOGIN", text("-", "shop", ""), `["Username:" "Password:"]`, "", ErrMalformed},
		{"LOGIN", text("-", "shop\x00", "password"), `["Username:"]`, "", ErrMalformed},
		{"LOGIN", text("shop", long), `["Password:"]`, "", ErrMalformed},
		{"CRAM-MD5", text("-"), "[]", "", ErrUnsupported},
		{"SCRAM-SHA-256-PLUS", text("-"), "[]", "", ErrUnsupported},
		{"", text("-"), "[]", "", ErrUnsupported},
	} {
		name := fmt.Sprintf("%s %.60q", c.mech, c.lines)
		challenges, x, err := play(t, s, c.mech, c.lines...)
		if err != c.want || fmt.Sprintf("%q", challenges) != c.challenges {
			t.Errorf("%s: %q, %v; want %s, %v", name, challenges, err, c.challenges, c.want)
		}
		if x == nil {
			continue
		}
		if x.Identity() != c.identity {
			t.Errorf("%s: identity %q, want %q", name, x.Identity(), c.identity)
		}
		if _, done, err := x.Next(t.Context(), []byte("\x00shop\x00password")); !done || err != ErrMalformed || x.Identity() != c.identity {
			t.Errorf("%s: an exchange that is over goes on: %v, %v, %q", name, done, err, x.Identity())
		}
		for i, line := range c.lines {
			if i <= len(challenges) && strings.Trim(string(line), "\x00") != "" {
				t.Errorf("%s: line %d is left as %q", name, i, line)
			}
		}
	}
}

// TestClients runs the clients of two libraries against both servers.
func TestClients(t *testing.T) {
	s := testStore(t)
	token := &sasl.OAuthBearerOptions{Username: "shop@example.com", Token: "token", Host: "smtp.example.com", Port: 587}
	for _, c := range []struct {
		server   beginner
		client   sasl.Client
		identity string
	}{
		{s, sasl.NewPlainClient("", "shop", "password"), "shop"},
		{s, sasl.NewLoginClient("shop", "password"), "shop"},
		{AcceptAny{}, sasl.NewPlainClient("", "sendgrid", "key"), ""},
		{AcceptAny{}, sasl.NewLoginClient("sendgrid", "key"), ""},
		{AcceptAny{}, sasl.NewOAuthBearerClient(token), ""},
	} {
		mech, response, err := c.client.Start()
		if err != nil {
			t.Fatal(err)
		}
		x, err := c.server.Begin(mech, response)
		if err != nil {
			t.Fatalf("%s: %v", mech, err)
		}
		challenge, done, err := x.Next(t.Context(), nil)
		for err == nil && !done {
			if response, err = c.client.Next(challenge); err == nil {
				challenge, done, err = x.Next(t.Context(), response)
			}
		}
		if err != nil || x.Identity() != c.identity {
			t.Errorf("%s against %T: %q, %v; want %q", mech, c.server, x.Identity(), err, c.identity)
		}
	}
}

// TestSCRAMVector is the exchange of RFC 7677 section 3.
func TestSCRAMVector(t *testing.T) {
	s := testStore(t)
	s.scram.server.WithNonceGenerator(func() string { return "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0" })
	challenges, x, err := play(t, s, "SCRAM-SHA-256", text(
		"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
		"")...)
	want := []string{
		"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
	}
	if err != nil || !slices.Equal(challenges, want) || x.Identity() != "user" {
		t.Errorf("%q, %v, identity %q; want %q", challenges, err, x.Identity(), want)
	}
}

// login plays SCRAM with the client library and returns the server's salt and
// iterations, and whether the server in its turn was proven.
func login(t *testing.T, s *Store, name, password, authzid string) (factors string, proven bool, x *Exchange, err error) {
	t.Helper()
	client, err := scram.SHA256.NewClient(name, password, authzid)
	if err != nil {
		t.Fatal(err)
	}
	conversation := client.NewConversation()
	message, err := conversation.Step("")
	if err != nil {
		t.Fatal(err)
	}
	if x, err = s.Begin("SCRAM-SHA-256", nil); err != nil {
		t.Fatal(err)
	}
	challenge, done, err := x.Next(t.Context(), nil)
	for step := 0; err == nil && !done; step++ {
		if step > 0 {
			if step == 1 {
				_, factors, _ = strings.Cut(string(challenge), ",")
			}
			if message, err = conversation.Step(string(challenge)); err != nil {
				t.Fatal(err)
			}
		}
		challenge, done, err = x.Next(t.Context(), []byte(message))
	}
	return factors, conversation.Valid(), x, err
}

func TestSCRAM(t *testing.T) {
	s := testStore(t)
	for _, c := range []struct {
		name, password, authzid string
		want                    error
	}{
		{"user", "pencil", "", nil},
		{"user", "pencil", "user", nil},
		{"user", "pencil", "shop", ErrCredentials},
		{"user", "wrong", "", ErrCredentials},
		{"shop", "password", "", ErrCredentials}, // has no SCRAM keys
		{"nobody", "pencil", "", ErrCredentials},
		{"a=b,c", "pencil", "", ErrCredentials},
	} {
		_, proven, x, err := login(t, s, c.name, c.password, c.authzid)
		if err != c.want {
			t.Errorf("%+v: %v, want %v", c, err, c.want)
		}
		if identity := x.Identity(); err == nil && (identity != c.name || !proven) || err != nil && identity != "" {
			t.Errorf("%+v: identity %q, the server proven %v", c, identity, proven)
		}
	}
}

// TestSCRAMHidesNames is that an unknown name gets what an account gets: the same
// each time, and after a restart.
func TestSCRAMHidesNames(t *testing.T) {
	s, restarted := testStore(t), testStore(t)
	factors := func(s *Store, name string) string {
		f, _, _, err := login(t, s, name, "wrong", "")
		if err != ErrCredentials {
			t.Fatalf("%s: %v", name, err)
		}
		return f
	}
	known, unknown, withoutKeys := factors(s, "user"), factors(s, "nobody"), factors(s, "shop")
	if again := factors(s, "nobody"); again != unknown {
		t.Errorf("an unknown name gets %s, then %s", unknown, again)
	}
	if again := factors(restarted, "nobody"); again != unknown {
		t.Errorf("an unknown name gets %s, after a restart %s", unknown, again)
	}
	if other := factors(s, "nobody2"); other == unknown {
		t.Error("two unknown names have one salt")
	}
	for _, f := range []string{unknown, withoutKeys} {
		if len(f) != len(known) || !strings.HasSuffix(f, ",i=4096") {
			t.Errorf("an unknown name gets %s, an account %s", f, known)
		}
	}
}

func TestSCRAMMalformed(t *testing.T) {
	const first = "n,,n=user,r=abc"
	for _, lines := range [][][]byte{
		text(""), text("-", ""), text("x"), text("n,,n=user"), text("p=tls-unique,,n=user,r=abc"), text("p=x,,n=user,r=abc"),
		text("n,,m=x,n=user,r=abc"), text("n,a=b=,n=user,r=abc"), text("n,,n=us=er,r=abc"),
		text("n,,n=" + strings.Repeat("x", maxName+1) + ",r=abc"), text("n,,n=user,r=" + strings.Repeat("x", 2*maxPassword)),
		text(first, ""), text(first, "c=biws,r=abc"), text(first, "c=!,r=abc,p=eA=="), text(first, "c=biws,r=abc,p=!"),
	} {
		if _, _, err := play(t, testStore(t), "SCRAM-SHA-256", lines...); err != ErrMalformed {
			t.Errorf("%.60q: %v, want ErrMalformed", lines, err)
		}
	}
	for _, final := range []string{"c=biws,r=abc,p=eA==", "c=eSws,r=abc,p=eA=="} { // wrong nonce, wrong binding
		if _, _, err := play(t, testStore(t), "SCRAM-SHA-256", text(first, final)...); err != ErrCredentials {
			t.Errorf("%q: %v, want ErrCredentials", final, err)
		}
	}
}

func TestMechanisms(t *testing.T) {
	for want, s := range map[string]*Store{
		"":                          newStore(t, Options{}),
		"PLAIN LOGIN":               newStore(t, Options{}, account("a", referenceArgon2, "")),
		"PLAIN LOGIN SCRAM-SHA-256": testStore(t),
	} {
		if got := strings.Join(s.Mechanisms(), " "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		for _, mech := range []string{"PLAIN", "LOGIN", "SCRAM-SHA-256"} {
			if _, err := s.Begin(mech, nil); (err == nil) != slices.Contains(s.Mechanisms(), mech) {
				t.Errorf("offered %q, %s begins with %v", want, mech, err)
			}
		}
	}
}

func TestAcceptAny(t *testing.T) {
	const digest = "b913a602c7eda7a495b4e6e7334d3890" // RFC 2195 section 2
	const ours = "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
	for _, c := range []struct {
		mech  string
		lines [][]byte
		want  error
	}{
		{"PLAIN", text("\x00any\x00thing"), nil},
		{"PLAIN", text("as\x00any\x00\xff\xfe"), nil},
		{"PLAIN", text("any\x00thing"), ErrMalformed},
		{"LOGIN", text("-", "any", "thing"), nil},
		{"LOGIN", text("any", "thing"), nil},
		{"LOGIN", text("-", "any", ""), ErrMalformed},
		{"CRAM-MD5", text("-", "tim "+digest), nil},
		{"CRAM-MD5", text("-", "tim t "+digest), nil},
		{"CRAM-MD5", text("tim " + digest), ErrMalformed},
		{"CRAM-MD5", text("-", digest), ErrMalformed},
		{"CRAM-MD5", text("-", " "+digest), ErrMalformed},
		{"CRAM-MD5", text("-", "tim "+digest[1:]), ErrMalformed},
		{"CRAM-MD5", text("-", "tim "+digest[1:]+"g"), ErrMalformed},
		{"CRAM-MD5", text("-", ""), ErrMalformed},
		{"XOAUTH2", text("user=a@b\x01auth=Bearer t\x01\x01"), nil},
		{"XOAUTH2", text("-", "user=a@b\x01auth=bearer t\x01\x01"), nil},
		{"XOAUTH2", text("user=\x01auth=Bearer t\x01\x01"), ErrMalformed},
		{"XOAUTH2", text("user=a@b\x01auth=Bearer \x01\x01"), ErrMalformed},
		{"XOAUTH2", text("user=a@b\x01auth=Bearer t\x01"), ErrMalformed},
		{"XOAUTH2", text("user=a@b\x01auth=Bearer t\x01\x01x"), ErrMalformed},
		{"XOAUTH2", text("user=a@b\x01\x01"), ErrMalformed},
		{"XOAUTH2", text(""), ErrMalformed},
		{"OAUTHBEARER", text(ours), nil},
		{"OAUTHBEARER", text("n,,\x01auth=Bearer t\x01\x01"), nil},
		{"OAUTHBEARER", text("-", "n,,\x01auth=Bearer t\x01\x01"), nil},
		{"OAUTHBEARER", text("y,,\x01auth=Bearer t\x01\x01"), ErrMalformed},
		{"OAUTHBEARER", text("n\x01auth=Bearer t\x01\x01"), ErrMalformed},
		{"OAUTHBEARER", text("n,,\x01host=x\x01\x01"), ErrMalformed},
		{"OAUTHBEARER", text("n,,\x01auth\x01\x01"), ErrMalformed},
		{"OAUTHBEARER", text("n,a=" + strings.Repeat("x", maxName+1) + ",\x01auth=Bearer t\x01\x01"), ErrMalformed},
		{"SCRAM-SHA-256", text("-"), ErrUnsupported},
		{"NTLM", text("TlRM"), ErrUnsupported},
	} {
		name := fmt.Sprintf("%s %.60q", c.mech, c.lines)
		challenges, x, err := play(t, AcceptAny{}, c.mech, c.lines...)
		if err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if x != nil && x.Identity() != "" {
			t.Errorf("%s: the claimed name is kept: %q", name, x.Identity())
		}
		for i, line := range c.lines {
			if i <= len(challenges) && len(bytes.Trim(line, "\x00")) > 0 {
				t.Errorf("%s: line %d is left as %q", name, i, line)
			}
		}
	}
	offered := AcceptAny{}.Mechanisms()
	for _, mech := range offered {
		if _, err := (AcceptAny{}).Begin(mech, nil); err != nil {
			t.Errorf("%s is offered, and begins with %v", mech, err)
		}
	}
}

func TestCRAMChallengesDiffer(t *testing.T) {
	a, _, _ := play(t, AcceptAny{}, "CRAM-MD5", nil)
	b, _, _ := play(t, AcceptAny{}, "CRAM-MD5", nil)
	if len(a) != 1 || len(b) != 1 || a[0] == b[0] || !strings.HasPrefix(a[0], "<") || !strings.HasSuffix(a[0], "@smtpwall>") {
		t.Errorf("challenges %q and %q", a, b)
	}
}
