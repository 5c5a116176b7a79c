package breaker

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"mime/quotedprintable"
	"strings"
	"testing"
)

func digestOf(text string) uint64 {
	var body Body
	body.Write([]byte(text))
	return body.Sum()
}

const letterText = "Dear Mary,\r\n\r\nwe are glad to tell you that your account is ready. Please open\r\n" +
	"https://shop.example.com/confirm/3f9a77/now?user=mary to confirm it within 7 days.\r\n\r\nYour team\r\n"

func TestOneTemplateIsOneBody(t *testing.T) {
	tests := map[string][2]string{
		"name":             {letterText, strings.ReplaceAll(letterText, "Mary", "John Paul McDonald")},
		"accented name":    {letterText, strings.ReplaceAll(letterText, "Mary", "Jürgen Müller")},
		"number":           {letterText, strings.ReplaceAll(letterText, "7 days", "14 days")},
		"amount":           {letterText + "in all 1,234.56 EUR", letterText + "in all 99.00 EUR"},
		"date":             {letterText + "on 2026-11-22 at 03:10", letterText + "on 1.2.2027 at 11:59:01"},
		"path of a URL":    {letterText, strings.ReplaceAll(letterText, "confirm/3f9a77/now?user=mary", "c/zzz?u=x/y/z")},
		"query of a URL":   {letterText + "http://a.example?x=mary", letterText + "http://a.example?x=bob&y=carol"},
		"address":          {letterText + "sent to mary@example.com", letterText + "sent to john.paul+x@mail.example.org"},
		"token":            {letterText + "code 8f14e45fceea167a", letterText + "code c9f0f895fb98ab91"},
		"wrapping":         {letterText, strings.Join(strings.Fields(letterText), "\n ")},
		"case of all":      {strings.ToLower(letterText + strings.Repeat("buy now ", 9)), strings.ToUpper(letterText + strings.Repeat("buy now ", 9))},
		"punctuation":      {letterText + "act now!!!", letterText + "act... now"},
		"soft line breaks": {letterText, strings.ReplaceAll(letterText, "account is", "acc=\r\nount =\r\nis")},
		"dot-stuffing":     {letterText + ".hidden file", letterText + "..hidden file"},
		"boundary":         {"--=_abcDef\r\n" + letterText + "--=_abcDef--\r\n", "--=_xyzUvw\r\n" + letterText + "--=_xyzUvw--\r\n"},
		"links in HTML":    {html("a1", "red"), html("zz/9?x=y", "red")},
		"style sheet":      {html("a", "red"), html("a", "blue")},
		"number, short":    {"Code 1234", "Code 99"},
	}
	for name, pair := range tests {
		t.Run(name, func(t *testing.T) {
			if a, b := digestOf(pair[0]), digestOf(pair[1]); a != b || a == 0 {
				t.Errorf("digests %x and %x, want the same, not 0:\n%s\n%s", a, b, pair[0], pair[1])
			}
		})
	}
}

func html(path, color string) string {
	return "<html><head><style type=\"text/css\">p { color: " + color + "; margin: 0 }</style></head><body>\r\n" +
		"<p class=\"x\">Dear Mary, we have a new offer for all of our readers, <a href=\"https://shop.example.com/" + path +
		"\">see it here</a> before the end of the month.</p></body></html>\r\n"
}

func TestOtherLettersAreOtherBodies(t *testing.T) {
	tests := map[string][2]string{
		"a word":                   {letterText, strings.ReplaceAll(letterText, "ready", "closed")},
		"order of words":           {letterText, strings.ReplaceAll(letterText, "glad to tell", "to glad tell")},
		"host of a URL":            {letterText, strings.ReplaceAll(letterText, "shop.example.com", "evil.example.net")},
		"words joined":             {letterText, strings.ReplaceAll(letterText, "account is", "accountis")},
		"text beside tags":         {html("a", "red"), strings.ReplaceAll(html("a", "red"), "offer", "song")},
		"short, capitals only":     {"Hello Mary", "Hello John"},
		"short, with few small":    {"Thanks, see you there. Alice", "Thanks, see you then. Alice"},
		"base64":                   {wrapped("one text of many octets, "), wrapped("some text of many octets, ")},
		"tags only":                {"<p><img src=\"a\"></p>", "<p><b></b></p>"},
		"another script":           {strings.Repeat("これは手紙です。", 10), strings.Repeat("それは手紙です。", 10)},
		"text after a style sheet": {"<style>p{}</style>" + letterText, "<style>p{}</style>" + html("a", "red")},
	}
	for name, pair := range tests {
		t.Run(name, func(t *testing.T) {
			if a, b := digestOf(pair[0]), digestOf(pair[1]); a == b || a == 0 || b == 0 {
				t.Errorf("digests %x and %x, want different ones, not 0:\n%s\n%s", a, b, pair[0], pair[1])
			}
		})
	}
}

func wrapped(text string) string {
	encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(text, 20)))
	var lines strings.Builder
	for len(encoded) > 76 {
		lines.WriteString(encoded[:76] + "\r\n")
		encoded = encoded[76:]
	}
	return lines.String() + encoded + "\r\n"
}

func TestNothingToTell(t *testing.T) {
	for _, text := range []string{"", " \r\n\r\n", "--\r\n", "...", "mary@example.com"} {
		if got := digestOf(text); got != 0 {
			t.Errorf("digest of %q is %x, want 0", text, got)
		}
	}
}

// What quoted-printable does to a text of ASCII does not matter.
func TestQuotedPrintable(t *testing.T) {
	text := strings.Repeat("a long line of words that will be broken somewhere between two of them or within one ", 3) + "end"
	var encoded bytes.Buffer
	writer := quotedprintable.NewWriter(&encoded)
	writer.Write([]byte(text))
	writer.Close()
	if !strings.Contains(encoded.String(), "=\r\n") {
		t.Fatal("nothing was broken")
	}
	if digestOf(text) != digestOf(encoded.String()) {
		t.Error("the digest differs")
	}
}

// What comes after enough text does not count, and is not looked at.
func TestOnlyTheBeginningCounts(t *testing.T) {
	text := strings.Repeat("some words here ", 60)
	if digestOf(text+"one end") != digestOf(text+"another end") {
		t.Error("the end counts")
	}
	if digestOf("one "+text) == digestOf("two "+text) {
		t.Error("the beginning does not count")
	}
}

func TestPersonalisedTemplates(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	digests := map[uint64]int{}
	for template, text := range templates {
		seen := map[uint64]bool{}
		for range 200 {
			seen[digestOf(fill(random, text))] = true
		}
		if len(seen) != 1 {
			t.Errorf("template %d: %d digests of 200 letters, want one", template, len(seen))
		}
		for digest := range seen {
			digests[digest]++
		}
	}
	if len(digests) != len(templates) {
		t.Errorf("%d digests of %d templates", len(digests), len(templates))
	}
}

// templates are letters as floods have them: with what a program fills in.
var templates = []string{
	"Dear NAME,\r\n\r\nyour mailbox ADDRESS has exceeded its limit of SUM GB. Upgrade now or lose your mail:\r\nURL\r\n",
	"Hello NAME,\r\n\r\nthe invoice SUM of DATE over SUM USD is attached. Please pay it within SUM days.\r\n\r\nBest regards,\r\nNAME\r\n",
	"Hi NAME, a parcel (TOKEN) could not be delivered to you on DATE because of unpaid customs. Pay SUM EUR here: URL\r\n",
	"<html><body><p>Dear NAME,</p><p>somebody has signed in to your bank account from a new device. If it was not you, <a href=\"URL\">confirm " +
		"your password</a> at once.</p><img src=\"URL\"></body></html>",
	"NAME! you have been selected to win SUM EUR. write to ADDRESS with the code TOKEN before DATE and tell nobody about it.\r\n",
	"I am NAME, a lawyer. My late client NAME left SUM million dollars and has no relatives. I ask for your trust. Answer to ADDRESS.\r\n",
}

func fill(random *rand.Rand, text string) string {
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	for _, field := range []struct {
		name string
		make func() string
	}{
		{"NAME", func() string {
			return pick("Mary", "John Smith", "Anna-Lena Müller", "Dr. O'Neil", "Élodie", "Пётр Иванов")
		}},
		{"ADDRESS", func() string {
			return pick("mary", "j.smith", "x-1") + fmt.Sprint(random.IntN(99)) + "@" + pick("example.com", "mail.example.org")
		}},
		{"SUM", func() string { return pick("7", "1,234.56", "20.000", "99") }},
		{"DATE", func() string {
			return fmt.Sprintf(pick("%d.%d.2026", "2026-%02d-%02d", "%d/%d/26"), 1+random.IntN(12), 1+random.IntN(28))
		}},
		{"URL", func() string {
			return fmt.Sprintf("https://site.example.net/%x?id=%d", random.Uint64(), random.IntN(1e6))
		}},
		{"TOKEN", func() string { return fmt.Sprintf("%c9%07x", 'a'+random.IntN(26), random.IntN(1<<28)) }},
	} {
		for strings.Contains(text, field.name) {
			text = strings.Replace(text, field.name, field.make(), 1)
		}
	}
	return text
}

// However a body is cut into writes, the digest is the same.
func FuzzBodyInPieces(f *testing.F) {
	f.Add([]byte(letterText), uint64(1))
	f.Add([]byte(html("a1", "red")), uint64(2))
	for i, text := range templates {
		f.Add([]byte(fill(rand.New(rand.NewPCG(1, 1)), text)), uint64(i))
	}
	f.Add([]byte(" =s\nb =\r\nc d=\r\ne f=\ng h=\r\r\ni =\n <sty=\r\nle>x</style> http\r ?y <"), uint64(71))
	f.Add([]byte("I am Élise. É é A B c I'm ok3 MARY aé BB cC "), uint64(9))
	f.Add([]byte("a=\r\nb <sty=\r\nle>x</style> 12 3a@b --c https://x?y <"), uint64(3))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		var pieces Body
		for rest := text; len(rest) > 0; {
			n := 1 + random.IntN(min(len(rest), 20))
			if taken, err := pieces.Write(rest[:n]); taken != n || err != nil {
				t.Fatalf("Write: %d, %v", taken, err)
			}
			rest = rest[n:]
		}
		if got, want := pieces.Sum(), digestOf(string(text)); got != want {
			t.Fatalf("in pieces %x, at once %x", got, want)
		}
		var octets Body // too short a write for the quick way
		for i := range text {
			octets.Write(text[i : i+1])
		}
		if got, want := octets.Sum(), digestOf(string(text)); got != want {
			t.Fatalf("octet by octet %x, at once %x", got, want)
		}
		pieces.Reset()
		if pieces != (Body{}) {
			t.Fatal("Reset leaves something")
		}
	})
}

func TestLetterBits(t *testing.T) {
	for c := range 256 {
		octets := load([]byte{byte(c)}) | 0x3000_0000_0000_3000
		if got, want := letterBits(octets)&0xff != 0, classes[c]&letter != 0; got != want {
			t.Errorf("octet %#x: letter %v, want %v", c, got, want)
		}
	}
}

func BenchmarkBody(b *testing.B) {
	line := "Dear Mary, we are glad to tell you that your order 1234 of 3 blue shirts has been sent.\r\n"
	for _, size := range []int{500, 4 << 10, 64 << 10} {
		text := []byte(strings.Repeat(line, size/len(line)+1))[:size]
		b.Run(fmt.Sprintf("%d octets", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				var body Body
				body.Write(text)
				if body.Sum() == 0 {
					b.Fatal("no digest")
				}
			}
		})
	}
	page := []byte("<html><head><style>" + strings.Repeat("p { margin: 0 } ", 500) + "</style></head><body>" + strings.Repeat(html("a", "red"), 100))
	b.Run("HTML", func(b *testing.B) {
		b.SetBytes(int64(len(page)))
		for b.Loop() {
			var body Body
			body.Write(page)
		}
	})
}
