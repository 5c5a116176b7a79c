package config

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

const fingerprintHint = `write "sha256:" and what ` + "`openssl x509 -in client.pem -noout -fingerprint -sha256`" + ` prints behind the =`

// parseFingerprint reads "sha256:" and the SHA-256 of a certificate in DER: in
// hexadecimal, with colons between the bytes or without, or in base64.
func parseFingerprint(text string) ([32]byte, error) {
	digest, ok := strings.CutPrefix(text, "sha256:")
	if !ok {
		return [32]byte{}, strangeFingerprint(text)
	}
	fingerprint, ok := decodeFingerprint(digest)
	if !ok {
		return [32]byte{}, flaw{fmt.Sprintf("%q is not a fingerprint", text), fingerprintHint}
	}
	return fingerprint, nil
}

// strangeFingerprint says how to write what stands as a tool printed it.
func strangeFingerprint(text string) error {
	hint := fingerprintHint
	if _, digest, found := strings.Cut(text, "="); found {
		if _, ok := decodeFingerprint(digest); ok {
			hint = "write " + quote("sha256:"+digest)
		}
	}
	if _, ok := decodeFingerprint(text); ok {
		hint = "write " + quote("sha256:"+text)
	}
	return flaw{fmt.Sprintf("%q is not a fingerprint", text), hint}
}

func decodeFingerprint(digest string) (fingerprint [32]byte, ok bool) {
	decoded, err := hex.DecodeString(digest)
	if parts := strings.Split(digest, ":"); len(parts) == len(fingerprint) {
		decoded, err = hex.DecodeString(strings.Join(parts, ""))
	}
	if err != nil {
		decoded, err = base64.RawStdEncoding.DecodeString(strings.TrimSuffix(digest, "="))
	}
	if err != nil || len(decoded) != len(fingerprint) {
		return fingerprint, false
	}
	return [32]byte(decoded), true
}
