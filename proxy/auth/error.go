package auth

// Error is why an exchange or a check failed. Its text is fit for the SMTP
// reply; none carries anything that the client sent.
type Error uint8

// The errors, each with its reply.
const (
	ErrCredentials        Error = iota + 1 // 535 5.7.8, RFC 4954 section 6
	ErrMalformed                           // 501 5.5.2, RFC 4954 section 4
	ErrTooLong                             // 500 5.5.6, RFC 4954 section 6
	ErrCancelled                           // 501 5.7.0, RFC 4954 section 4: the client sent "*"
	ErrTemporary                           // 454 4.7.0, RFC 4954 section 6
	ErrUnsupported                         // 504 5.5.4, RFC 4954 section 4
	ErrEncryption                          // 538 5.7.11, RFC 4954 section 6: for the session, which knows of TLS
	ErrNoCertificate                       // 504 5.5.4, RFC 4954 section 4: EXTERNAL needs what this client did not show
	ErrUnknownCertificate                  // 535 5.7.8, as are the next two
	ErrExpired
	ErrNotYetValid
)

// Reply returns the reply code and the enhanced status code (RFC 3463).
func (e Error) Reply() (code int, enhanced [3]int) {
	switch e {
	case ErrCredentials, ErrUnknownCertificate, ErrExpired, ErrNotYetValid:
		return 535, [3]int{5, 7, 8}
	case ErrMalformed:
		return 501, [3]int{5, 5, 2}
	case ErrTooLong:
		return 500, [3]int{5, 5, 6}
	case ErrCancelled:
		return 501, [3]int{5, 7, 0}
	case ErrUnsupported, ErrNoCertificate:
		return 504, [3]int{5, 5, 4}
	case ErrEncryption:
		return 538, [3]int{5, 7, 11}
	}
	return 454, [3]int{4, 7, 0}
}

// Failed tells whether the client tried to log in and could not, which counts
// against it; the others are no attempt, or not its fault.
func (e Error) Failed() bool {
	switch e {
	case ErrCredentials, ErrMalformed, ErrUnknownCertificate, ErrExpired, ErrNotYetValid:
		return true
	}
	return false
}

// Error is the text of the reply.
func (e Error) Error() string {
	switch e {
	case ErrCredentials:
		return "authentication credentials invalid"
	case ErrMalformed:
		return "authentication exchange malformed"
	case ErrTooLong:
		return "authentication exchange line too long"
	case ErrCancelled:
		return "authentication cancelled"
	case ErrUnsupported:
		return "authentication mechanism not supported"
	case ErrEncryption:
		return "encryption required before authentication"
	case ErrNoCertificate:
		return "no client certificate was shown in the TLS handshake: configure one with its key, or use another mechanism"
	case ErrUnknownCertificate:
		return "the client certificate belongs to no account: its SHA-256 fingerprint must be listed there"
	case ErrExpired:
		return "the client certificate has expired: renew it, and list the new one's fingerprint"
	case ErrNotYetValid:
		return "the client certificate is not valid yet: look at its first date, and at the clocks"
	}
	return "temporary authentication failure"
}
