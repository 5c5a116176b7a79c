package config

// Alert says whom to tell by another way than mail. Exactly one of Exec and
// Webhook is set.
type Alert struct {
	Exec    []string // absolute path of a program and its arguments
	Webhook string   // https URL; http to a loopback host alone
	Secret  Secret   // key of the HMAC over what the webhook gets
	CAFile  string   // PEM, instead of the system's roots; "" uses those
	Events  []string // none of them twice; all where the file names none
}

// What alerts are about.
const (
	AlertBlocked     = "blocked"     // the first connection of an identity that the firewall blocked
	AlertLimit       = "limit"       // an identity reached a limit
	AlertBreaker     = "breaker"     // a breaker tripped
	AlertSuspension  = "suspension"  // an identity was suspended or resumed
	AlertDrift       = "drift"       // the kernel's rules are not ours
	AlertRelay       = "relay"       // a relay is down, or up again
	AlertCertificate = "certificate" // a certificate ends soon
	AlertSpool       = "spool"       // the spool is large, or a message in it old
	AlertLogin       = "login"       // logins to an account fail
	AlertMode        = "mode"        // the mode was changed
)
