package config

import (
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/auth"
	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// The rooms that use accounts and rules check them again. These tests hold our
// checks, which come with a line and a hint, to theirs.

const (
	aSalt   = "c29tZXNhbHQ"
	aKey    = "RdescudvJCsgt3ub+b4dWRWJTmaaJObG"
	aBcrypt = "$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"
	aStored = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

func argon(parameters string) string {
	return "$argon2id$v=19$" + parameters + "$" + aSalt + "$" + aKey
}

func TestPasswordsAgreeWithAuth(t *testing.T) {
	for hash, want := range map[string]bool{
		argon("m=65536,t=3,p=4"): true, argon("m=19456,t=2,p=1"): true, argon("m=7168,t=5,p=1"): true, argon("m=262144,t=16,p=16"): true,
		argon("m=7167,t=16,p=1"): false, argon("m=7168,t=4,p=1"): false, argon("m=262145,t=1,p=1"): false, argon("m=65536,t=17,p=1"): false,
		argon("m=65536,t=0,p=1"): false, argon("m=65536,t=3,p=0"): false, argon("m=65536,t=3,p=17"): false, argon("m=65536,t=3"): false,
		argon("m=65536,t=3,p=4,x=1"): false, argon("t=3,m=65536,p=4"): false, argon("m=4294967296,t=3,p=4"): false, argon("m=-1,t=3,p=4"): false,
		"$argon2id$v=16$m=65536,t=3,p=4$" + aSalt + "$" + aKey: false, "$argon2i$v=19$m=65536,t=3,p=4$" + aSalt + "$" + aKey: false,
		"$argon2id$v=19$m=65536,t=3,p=4$c2hvcnQ$" + aKey: false, "$argon2id$v=19$m=65536,t=3,p=4$" + aSalt + "$c2hvcnQ": false,
		"$argon2id$v=19$m=65536,t=3,p=4$" + aSalt + "=$" + aKey: false, "$argon2id$": false,
		"$2a" + aBcrypt: true, "$2b" + aBcrypt: true, "$2y" + aBcrypt: true, "$2x" + aBcrypt: false, "$2b" + aBcrypt + "x": false,
		"$2b$09" + aBcrypt[3:]: false, "$2b$10" + aBcrypt[3:]: true, "$2b$15" + aBcrypt[3:]: true, "$2b$16" + aBcrypt[3:]: false,
		"$2b$+9" + aBcrypt[3:]: false, "$2b$": false, "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMU!": false,
		"hunter2": false, "$1$abc$def": false,
	} {
		_, theirs := auth.New([]auth.Account{{Name: "a", Password: hash}}, auth.Options{})
		ours := checkPasswordHash(hash)
		if (ours == nil) != want || (theirs == nil) != want {
			t.Errorf("%s: config says %v, auth says %v, want accepted: %t", hash, ours, theirs, want)
		}
	}
}

func TestStoredKeysAgreeWithAuth(t *testing.T) {
	for stored, want := range map[string]bool{
		"SCRAM-SHA-256$4096:c29tZXNhbHQ=$" + aStored + ":" + aStored: true, "SCRAM-SHA-256$1000000:c29tZXNhbHQ=$" + aStored + ":" + aStored: true,
		"SCRAM-SHA-256$4095:c29tZXNhbHQ=$" + aStored + ":" + aStored: false, "SCRAM-SHA-256$1000001:c29tZXNhbHQ=$" + aStored + ":" + aStored: false,
		"SCRAM-SHA-256$4096:c2hvcnQ=$" + aStored + ":" + aStored: false, "SCRAM-SHA-256$4096:c29tZXNhbHQ$" + aStored + ":" + aStored: false,
		"SCRAM-SHA-1$4096:c29tZXNhbHQ=$" + aStored + ":" + aStored: false, "SCRAM-SHA-256$4096:c29tZXNhbHQ=$" + aStored: false,
		"SCRAM-SHA-256$x:c29tZXNhbHQ=$" + aStored + ":" + aStored: false, "SCRAM-SHA-256$4096$" + aStored + ":" + aStored: false, "hunter2": false,
	} {
		_, theirs := auth.New([]auth.Account{{Name: "a", SCRAM: stored}}, auth.Options{})
		ours := checkSCRAM(stored)
		if (ours == nil) != want || (theirs == nil) != want {
			t.Errorf("%s: config says %v, auth says %v, want accepted: %t", stored, ours, theirs, want)
		}
	}
}

func TestAccountNamesAgreeWithAuth(t *testing.T) {
	for name, want := range map[string]bool{
		"webshop": true, "müller": true, "a b": true, "a@b": true, "": false, "a\x00b": false, "a\nb": false, "a\u200bb": false,
	} {
		_, theirs := auth.New([]auth.Account{{Name: name, Password: argon("m=65536,t=3,p=4")}}, auth.Options{})
		ours := checkAccountName(name)
		if (ours == nil) != want || (theirs == nil) != want {
			t.Errorf("%q: config says %v, auth says %v, want accepted: %t", name, ours, theirs, want)
		}
	}
}

func TestPatternsAgreeWithPolicy(t *testing.T) {
	for pattern, want := range map[string]bool{
		"*": true, "*@example.com": true, "user@example.com": true, "u?er@*": true, "*@*.example.com": true, "*@bücher.example": true,
		"*@[192.0.2.1]": true, "*@xn--bcher-kva.example": true, "a@b@example.com": true, "<>": true,
		"": false, "example.com": false, "@example.com": false, "user@": false, "*@ex..com": false, "*@.com": false, "*@com.": false, "*@bü cher.example": false,
	} {
		_, theirs := policy.New(policy.Deny, []policy.Rule{{Name: "a", Senders: []string{pattern}}})
		ours := checkSenderPattern(pattern)
		if (ours == nil) != want || (theirs == nil) != want {
			t.Errorf("%q: config says %v, policy says %v, want accepted: %t", pattern, ours, theirs, want)
		}
	}
}

func TestMailboxesAgreeWithSMTP(t *testing.T) {
	for mailbox, want := range map[string]bool{
		"admin@example.com": true, "first.last+tag@mail.example.com": true, "root@localhost": true, "o'brien@example.com": true, "A@B": true,
		strings.Repeat("a", 64) + "@example.com": true,
		"":                                       false, "admin": false, "@example.com": false, "admin@": false, "<admin@example.com>": false, "Admin <admin@example.com>": false,
		"a@b@example.com": false, ".a@example.com": false, "a.@example.com": false, "a..b@example.com": false, "a b@example.com": false,
		"a@example..com": false, "a@example.com.": false, "a@-example.com": false, "a,b@example.com": false, "a@example.com\r\nBcc: x": false,
		strings.Repeat("a", 65) + "@example.com": false,
	} {
		_, _, theirs := smtp.ParseMail("FROM:<"+mailbox+">", smtp.Capabilities{})
		ours := checkMailbox(mailbox)
		if (ours == nil) != want || (theirs == nil && mailbox != "") != want {
			t.Errorf("%q: config says %v, smtp says %v, want accepted: %t", mailbox, ours, theirs, want)
		}
	}
}

// TestMailboxesThatFewTake holds what RFC 5321 allows and a relay may refuse.
func TestMailboxesThatFewTake(t *testing.T) {
	for _, mailbox := range []string{`"a b"@example.com`, "a@[192.0.2.1]", "a@192.0.2.1", "müller@example.com", "a@bücher.example", "a@ex_ample.com"} {
		if checkMailbox(mailbox) == nil {
			t.Errorf("%s is taken for a mailbox", mailbox)
		}
	}
}

// TestLimitsAgreeWithLimit: people see a limit as they wrote it, whoever shows
// it.
func TestLimitsAgreeWithLimit(t *testing.T) {
	counted := map[Counted]limit.Counted{Messages: limit.Messages, Recipients: limit.Recipients, NewRecipients: limit.NewRecipients, Bytes: limit.Bytes}
	for _, text := range []string{
		"1 message/second", "100 messages/hour", "2000 recipients/day", "50 new-recipients/week", "10 messages/month", "10 messages/10m", "10 messages/90s",
		"10 messages/1h30m", "10 messages/2d", "10 messages/36h", "1.5GiB/day", "500MB/hour", "1023B/minute", "1025KiB/3d", "1024TiB/month", "5 messages/1.5s", "5 messages/1h0m1s",
	} {
		ours, err := parseLimit(text)
		if err != nil {
			t.Fatal(err)
		}
		theirs := limit.Limit{Counted: counted[ours.Counted], Max: ours.Max, Window: ours.Window}
		if ours.String() != theirs.String() {
			t.Errorf("%s: config says %s, limit says %s", text, ours, theirs)
		}
	}
}
