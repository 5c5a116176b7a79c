package filter

import (
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/emersion/go-milter"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// Message is what a filter is told.
type Message struct {
	ID         string     // of the transaction
	HostName   string     // ours
	Helo       string     // as the client said it; empty is HostName
	Client     netip.Addr // invalid for a client on a Unix socket
	ClientName string     // empty is unknown
	TLSVersion string     // empty without TLS
	Account    string     // that AUTH verified; empty without
	Envelope   smtp.Envelope
	Header     []byte    // the header section, the empty line that ends it included
	Body       io.Reader // what follows; nil is nothing
}

// localAddr stands for a client without an address, as sendmail and Postfix have
// it: filters know by it what comes from this host.
var localAddr = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// client is the name and the address of the client for a filter.
func (m *Message) client() (name string, addr netip.Addr) {
	addr = m.Client.Unmap().WithZone("")
	if !addr.IsValid() {
		addr = localAddr
	}
	switch {
	case m.ClientName != "":
		return m.ClientName, addr
	case addr.IsLoopback():
		return "localhost", addr
	}
	return "[" + addr.String() + "]", addr
}

func (m *Message) helo() string {
	if m.Helo == "" {
		return m.HostName
	}
	return m.Helo
}

// connectMacros and those below are names and values by turns. Names of more
// than one letter stand in braces.
func (m *Message) connectMacros() []string {
	name, addr := m.client()
	return []string{"j", m.HostName, "v", "smtpwall", "{daemon_name}", "smtpwall", "{client_name}", name, "{client_addr}", addr.String(),
		"_", name + " [" + addr.String() + "]"}
}

func (m *Message) heloMacros() []string {
	if m.TLSVersion == "" {
		return nil
	}
	return []string{"{tls_version}", m.TLSVersion}
}

func (m *Message) mailMacros() []string {
	macros := []string{"i", m.ID, "{mail_addr}", m.Envelope.ReversePath}
	if m.Account != "" {
		// By which mechanism is nobody's business; that there was one matters.
		macros = append(macros, "{auth_authen}", m.Account, "{auth_type}", "SASL")
	}
	return macros
}

func (m *Message) idMacros() []string { return []string{"i", m.ID} }

func rcptMacros(rcpt smtp.Recipient) []string { return []string{"{rcpt_addr}", rcpt.Address} }

// mailArgs are the parameters of MAIL that say something of the message.
func (m *Message) mailArgs() []string {
	var args []string
	params := m.Envelope.Params
	if params.Size > 0 {
		args = append(args, "SIZE="+strconv.FormatInt(params.Size, 10))
	}
	if params.Body != "" {
		args = append(args, "BODY="+params.Body)
	}
	if params.UTF8 {
		args = append(args, "SMTPUTF8")
	}
	return args
}

func rcptArgs(rcpt smtp.Recipient) []string {
	var args []string
	if rcpt.Params.Notify != "" {
		args = append(args, "NOTIFY="+rcpt.Params.Notify)
	}
	if rcpt.Params.ORcpt != "" {
		args = append(args, "ORCPT="+rcpt.Params.ORcpt)
	}
	return args
}

func family(addr netip.Addr) milter.ProtoFamily {
	if addr.Is4() {
		return milter.FamilyInet
	}
	return milter.FamilyInet6
}

// oneString makes s one string of the protocol, which NUL would end.
func oneString(s string) string { return strings.ReplaceAll(s, "\x00", "?") }
