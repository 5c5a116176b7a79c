package config

// Expect is a case that the policy must decide as it says; `smtpwall check`
// tries it. An identity without any attribute is an unknown one.
type Expect struct {
	User      string // a name, whose uid and groups are the host's; "": UID
	UID       string // a decimal number; "": no proven user
	Unit      string
	Container string
	Account   string
	Listener  ListenerRole
	From      string   // reverse-path; "" is the null one, which the file writes as "<>"
	To        []string // none: the sender alone is tried
	// HeaderFrom is the address in the From header field; "": the header section
	// is not looked at.
	HeaderFrom string
	Decision   Result
	Rule       string // the rule that must decide; "": any
	Line       int    // of its table
}
