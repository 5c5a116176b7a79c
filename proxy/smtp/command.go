package smtp

import (
	"bytes"
	"strconv"
	"strings"
)

// Verb is a command's name.
type Verb uint8

// The commands that we know. VerbUnknown is anything else; VerbForeign is the
// first line of another protocol, such as a browser made to speak to us.
const (
	VerbUnknown Verb = iota
	VerbForeign
	EHLO
	HELO
	MAIL
	RCPT
	DATA
	BDAT
	RSET
	NOOP
	VRFY
	EXPN
	HELP
	QUIT
	STARTTLS
	AUTH
	verbs // their number
)

// Verbs is the number of distinct verbs, for tables indexed by Verb.
const Verbs = int(verbs)

var verbNames = [...]string{"?", "foreign", "EHLO", "HELO", "MAIL", "RCPT", "DATA", "BDAT",
	"RSET", "NOOP", "VRFY", "EXPN", "HELP", "QUIT", "STARTTLS", "AUTH"}

// String is the verb as it goes on the wire.
func (v Verb) String() string { return verbNames[v] }

// Command is one line from a client.
type Command struct {
	Verb Verb
	Arg  string // what follows the verb, outer white space taken off
}

// MaxCommandLine bounds a command line in octets, CRLF included. RFC 5321
// section 4.5.3.1.4 asks for 512 and extensions add to it: SMTPUTF8, DSN's
// ORCPT and ENVID, and AUTH's initial response (RFC 4954 section 4: 12,288).
const (
	MaxCommandLine = 2048
	MaxAuthLine    = 12288
)

// ParseCommand takes a line without its CRLF apart. MAIL and RCPT keep their
// "FROM:" and "TO:" in Arg.
func ParseCommand(line []byte) Command {
	word, rest, _ := bytes.Cut(line, []byte(" "))
	return Command{Verb: parseVerb(word, rest), Arg: string(bytes.Trim(rest, " \t"))}
}

func parseVerb(word, rest []byte) Verb {
	var upper [8]byte
	if len(word) > len(upper) {
		return foreign(word)
	}
	for i, c := range word {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper[i] = c
	}
	switch string(upper[:len(word)]) {
	case "EHLO":
		return EHLO
	case "HELO":
		return HELO
	case "MAIL":
		return MAIL
	case "RCPT":
		return RCPT
	case "DATA":
		return DATA
	case "BDAT":
		return BDAT
	case "RSET":
		return RSET
	case "NOOP":
		return NOOP
	case "VRFY":
		return VRFY
	case "EXPN":
		return EXPN
	case "HELP":
		return HELP
	case "QUIT":
		return QUIT
	case "STARTTLS":
		return STARTTLS
	case "AUTH":
		return AUTH
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "CONNECT", "PATCH":
		if bytes.Contains(rest, []byte("HTTP/")) {
			return VerbForeign
		}
	}
	return foreign(word)
}

// foreign tells a header field ("Host:") or a TLS record from a mistyped verb.
func foreign(word []byte) Verb {
	if len(word) > 1 && word[len(word)-1] == ':' || len(word) > 1 && word[0] == 0x16 && word[1] == 3 {
		return VerbForeign
	}
	return VerbUnknown
}

// IsVerb says, without taking it apart, whether a line starts with the verb.
func IsVerb(line []byte, v Verb) bool {
	name := v.String()
	return len(line) >= len(name) && strings.EqualFold(string(line[:len(name)]), name) &&
		(len(line) == len(name) || line[len(name)] == ' ' || line[len(name)] == '\r')
}

// Chunk is the argument of BDAT (RFC 3030 section 2).
type Chunk struct {
	Size int64 // octets that follow
	Last bool
}

// ParseChunk reads "86 LAST".
func ParseChunk(arg string) (Chunk, bool) {
	digits, last, found := strings.Cut(arg, " ")
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || size < 0 || digits[0] == '+' || digits[0] == '-' {
		return Chunk{}, false
	}
	last = strings.TrimSpace(last)
	if found && last != "" && !strings.EqualFold(last, "LAST") {
		return Chunk{}, false
	}
	return Chunk{Size: size, Last: last != ""}, true
}

// ValidHelo says whether an EHLO or HELO argument is a domain or an address
// literal (RFC 5321 section 4.1.3), or close enough: real clients send bare
// host names and underscores. It is ASCII, since it goes into the header section
// (RFC 6531 section 3.7.1: a U-label is sent as its A-label).
func ValidHelo(arg string) bool {
	if strings.HasPrefix(arg, "[") {
		return validLiteral(arg)
	}
	return isASCII(arg) && validDomain(arg, true)
}
