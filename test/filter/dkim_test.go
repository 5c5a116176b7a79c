package filter_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"regexp"
	"strings"
	"testing"
)

// verifySimple checks a signature of the simple canonicalization (RFC 6376
// section 3.4) without any help of opendkim, which was asked by way of the code
// that is tested here.
func verifySimple(t *testing.T, keyPath, message string) {
	t.Helper()
	header, body, _ := strings.Cut(message, "\r\n\r\n")
	fields := splitFields(header + "\r\n")
	signature := fields[0]
	bodyHash := sha256.Sum256([]byte(strings.TrimRight(body, "\r\n") + "\r\n"))
	if got := tag(signature, "bh"); got != base64.StdEncoding.EncodeToString(bodyHash[:]) {
		t.Errorf("hash of the body is %s in\n%s", got, message)
	}
	hash := sha256.New()
	for _, name := range strings.Split(tag(signature, "h"), ":") {
		hash.Write([]byte(takeLast(fields[1:], name)))
	}
	hash.Write([]byte(strings.TrimSuffix(regexp.MustCompile(`(\bb=)[^;]*`).ReplaceAllString(signature, "$1"), "\r\n")))
	octets, err := base64.StdEncoding.DecodeString(tag(signature, "b"))
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPKCS1v15(publicHalf(t, keyPath), crypto.SHA256, hash.Sum(nil), octets); err != nil {
		t.Errorf("signature of\n%s\n%v", message, err)
	}
}

// splitFields are the fields as they stand there.
func splitFields(header string) []string {
	var fields []string
	for line := range strings.Lines(header) {
		if line[0] == ' ' || line[0] == '\t' {
			fields[len(fields)-1] += line
			continue
		}
		fields = append(fields, line)
	}
	return fields
}

// takeLast gives the last field of that name, and only once (section 5.4.2).
func takeLast(fields []string, name string) string {
	for i := len(fields) - 1; i >= 0; i-- {
		if got, _, _ := strings.Cut(fields[i], ":"); strings.EqualFold(got, name) {
			taken := fields[i]
			fields[i] = ""
			return taken
		}
	}
	return ""
}

// tag is a value of a signature, without its white space.
func tag(signature, name string) string {
	found := regexp.MustCompile(`[;\s]` + name + `=([^;]*)`).FindStringSubmatch(signature)
	if found == nil {
		return ""
	}
	return strings.Join(strings.Fields(found[1]), "")
}

func publicHalf(t *testing.T, path string) *rsa.PublicKey {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no key in %s", path)
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return &key.(*rsa.PrivateKey).PublicKey
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &key.PublicKey
}
