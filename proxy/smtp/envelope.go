package smtp

// Envelope is who a message is from and for, as the transport sees it
// (RFC 5321 section 2.3.1). The header section plays no part in it.
type Envelope struct {
	// ReversePath is local@domain without angle brackets; empty is the null
	// reverse-path "<>" of notices (RFC 5321 section 4.5.5).
	ReversePath string     `json:"reverse_path"`
	Params      MailParams `json:"params"`
	// Recipients are in the order in which the client named them.
	Recipients []Recipient `json:"recipients"`
}

// MailParams are the parameters of MAIL.
type MailParams struct {
	Size  int64  `json:"size,omitempty"`  // octets, as declared; 0 is undeclared (RFC 1870)
	Body  string `json:"body,omitempty"`  // "", "7BIT" or "8BITMIME" (RFC 6152)
	UTF8  bool   `json:"utf8,omitempty"`  // SMTPUTF8 (RFC 6531)
	Ret   string `json:"ret,omitempty"`   // "", "FULL" or "HDRS" (RFC 3461 section 4.3)
	EnvID string `json:"envid,omitempty"` // xtext, as sent (RFC 3461 section 4.4)
}

// Recipient is one forward-path and its parameters.
type Recipient struct {
	Address string     `json:"address"` // local@domain without angle brackets
	Params  RcptParams `json:"params"`
}

// RcptParams are the parameters of RCPT.
type RcptParams struct {
	Notify string `json:"notify,omitempty"` // "NEVER" or a comma list, upper case (RFC 3461 section 4.1)
	ORcpt  string `json:"orcpt,omitempty"`  // addr-type;xtext, as sent (RFC 3461 section 4.2)
}
