package auth

import (
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// cheap are hashes of "password" at the least cost that is accepted.
const (
	referenceArgon2 = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc" // of the reference implementation's tests
	cheapSCRAM      = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	scramPassword   = "pencil" // RFC 7677 section 3
)

func bcryptOf(t testing.TB, password, prefix string) string {
	t.Helper()
	made, err := bcrypt.GenerateFromPassword([]byte(password), minBcryptCost)
	if err != nil {
		t.Fatal(err)
	}
	return prefix + string(made[4:])
}

func TestHashes(t *testing.T) {
	for name, c := range map[string]struct{ text, password string }{
		"argon2id, reference": {referenceArgon2, "password"},
		"bcrypt 2a":           {bcryptOf(t, "password", "$2a$"), "password"},
		"bcrypt 2b":           {bcryptOf(t, "password", "$2b$"), "password"},
		"bcrypt 2y":           {bcryptOf(t, "password", "$2y$"), "password"},
	} {
		h, err := parseHash(c.text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !h.matches([]byte(c.password)) || h.matches([]byte(c.password+"x")) || h.matches(nil) {
			t.Errorf("%s: right %v, wrong %v, empty %v", name,
				h.matches([]byte(c.password)), h.matches([]byte(c.password+"x")), h.matches(nil))
		}
		if h.decoy().matches([]byte(c.password)) {
			t.Errorf("%s: the decoy fits the password", name)
		}
	}
	k, err := parseSCRAM(cheapSCRAM)
	if err != nil {
		t.Fatal(err)
	}
	if !k.matches([]byte(scramPassword)) || k.matches([]byte("password")) || k.decoy().matches([]byte(scramPassword)) {
		t.Error("the SCRAM keys of RFC 7677 do not tell its password from others")
	}
	if k.String() != cheapSCRAM {
		t.Errorf("written back: %s", k)
	}
}

// TestDecoyCosts is that a decoy has the parameters of its model and can be
// computed: bcrypt in particular refuses what it cannot read, at no cost.
func TestDecoyCosts(t *testing.T) {
	argon, _ := parseHash(referenceArgon2)
	model, decoy := argon.(*argon2Hash), argon.decoy().(*argon2Hash)
	if decoy.memory != model.memory || decoy.passes != model.passes || decoy.lanes != model.lanes ||
		len(decoy.salt) != len(model.salt) || len(decoy.key) != len(model.key) {
		t.Errorf("the decoy %+v is not like %+v", decoy, model)
	}
	crypt, err := parseHash(bcryptOf(t, "x", "$2y$"))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		text := crypt.decoy().(bcryptHash)
		if err := bcrypt.CompareHashAndPassword(text, []byte("x")); err != bcrypt.ErrMismatchedHashAndPassword {
			t.Fatalf("the bcrypt decoy is not computed: %v", err)
		}
		if cost, _ := bcrypt.Cost(text); cost != minBcryptCost {
			t.Errorf("the bcrypt decoy costs %d", cost)
		}
	}
}

func TestNewErrors(t *testing.T) {
	const salt, key = "c2VjcmV0c2FsdA", "c2VjcmV0a2V5c2VjcmV0a2V5" // "secretsalt", "secretkeysecretkey"
	const notOne = `; "smtpwall account hash" makes one`
	crypt := "$2b$10$" + strings.Repeat("s", 53)
	for _, c := range []struct {
		account Account
		want    string
	}{
		{account("", "x", ""), `account 1 (""): has no name`},
		{account(strings.Repeat("a", 256), "x", ""), `name is longer than 255 octets`},
		{account("a\x00b", "x", ""), `name has the character U+0000`},
		{account("a\u202eb", "x", ""), `name has the character U+202E`},
		{account("a\xff", "x", ""), `name is not UTF-8`},
		{account("a", "", ""), `account 1 ("a"): has neither password nor scram nor certificate`},
		{account("a", "secret", ""), `password: is not an argon2id or bcrypt hash` + notOne},
		{account("a", "$argon2i$v=19$m=65536,t=3,p=4$"+salt+"$"+key, ""), `is not an argon2id or bcrypt hash`},
		{account("a", "$argon2id$m=65536,t=3,p=4$"+salt+"$"+key, ""), `is not $argon2id$v=19$m=…`},
		{account("a", "$argon2id$v=16$m=65536,t=3,p=4$"+salt+"$"+key, ""), `is not $argon2id$v=19$m=…`},
		{account("a", "$argon2id$v=19$t=3,m=65536,p=4$"+salt+"$"+key, ""), `parameters are not m=…,t=…,p=…`},
		{account("a", "$argon2id$v=19$m=-1,t=3,p=4$"+salt+"$"+key, ""), `parameter m= is not a number`},
		{account("a", "$argon2id$v=19$m=1024,t=3,p=4$"+salt+"$"+key, ""), `memory of 1024 KiB is not within 7168 and 262144`},
		{account("a", "$argon2id$v=19$m=4194304,t=3,p=4$"+salt+"$"+key, ""), `memory of 4194304 KiB is not`},
		{account("a", "$argon2id$v=19$m=65536,t=0,p=4$"+salt+"$"+key, ""), `0 passes`},
		{account("a", "$argon2id$v=19$m=65536,t=3,p=0$"+salt+"$"+key, ""), `parallelism 0`},
		{account("a", "$argon2id$v=19$m=7168,t=4,p=1$"+salt+"$"+key, ""), `is too weak`},
		{account("a", "$argon2id$v=19$m=65536,t=3,p=4$c2Vj$"+key, ""), `salt is not base64 of 8 to 64 octets`},
		{account("a", "$argon2id$v=19$m=65536,t=3,p=4$"+salt+"$secret!", ""), `argon2id hash is not base64 of 16 to 64 octets`},
		{account("a", crypt[:59], ""), `bcrypt hash is not`},
		{account("a", crypt[:59]+"!", ""), `bcrypt hash is not`},
		{account("a", "$2b$05"+crypt[6:], ""), `bcrypt cost is not within 10 and 15`},
		{account("a", "$2b$31"+crypt[6:], ""), `bcrypt cost is not within 10 and 15`},
		{account("a", "", "secret"), `scram: is not SCRAM-SHA-256$`},
		{account("a", "", strings.Replace(cheapSCRAM, "4096", "1000", 1)), `iteration count is not within 4096 and 1000000`},
		{account("a", "", strings.Replace(cheapSCRAM, "W22Z", "!", 1)), `scram: salt is not base64`},
		{account("a", "", strings.Replace(cheapSCRAM, "WG5d", "", 1)), `StoredKey is not base64 of 32 to 32 octets`},
		{account("a", "", cheapSCRAM[:len(cheapSCRAM)-4]), `ServerKey is not`},
	} {
		_, err := New([]Account{c.account}, Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.account, err, c.want)
			continue
		}
		for _, secret := range []string{"secret", "c2Vj", "ssss", "wfPL"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error repeats the configuration: %v", err)
			}
		}
	}
	_, err := New([]Account{{Name: "a", SCRAM: cheapSCRAM}, {Name: "b"}, {Name: "a", SCRAM: cheapSCRAM}}, Options{})
	if err == nil || !strings.Contains(err.Error(), `account 2 ("b")`) || !strings.Contains(err.Error(), "another account has this name") {
		t.Errorf("not all that is wrong: %v", err)
	}
}

func TestHashPassword(t *testing.T) {
	for _, password := range []string{"x", "correct horse", "pass\u00adwörd", "\u0378 unassigned", strings.Repeat("ü", 512)} {
		argon2id, scram, err := HashPassword([]byte(password))
		if err != nil {
			t.Fatalf("%q: %v", password, err)
		}
		for _, made := range []Account{account("a", argon2id, ""), account("a", "", scram)} {
			s, err := New([]Account{made}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(t.Context(), "a", []byte(password)); err != nil {
				t.Errorf("%q does not fit its own %+v: %v", password, made, err)
			}
			if err := s.Verify(t.Context(), "a", []byte(password+"y")); err != ErrCredentials {
				t.Errorf("%q fits a longer password: %v", password, err)
			}
		}
		again, _, _ := HashPassword([]byte(password))
		if again == argon2id {
			t.Error("two hashes have one salt")
		}
	}
	for _, password := range []string{"", "a\x00b", "\xff", strings.Repeat("x", maxPassword+1)} {
		if argon2id, scram, err := HashPassword([]byte(password)); err == nil || argon2id+scram != "" {
			t.Errorf("%.10q is hashed", password)
		}
	}
}
