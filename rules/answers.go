package rules

import "slices"

// AnswerGroup is the NFLOG group that answers of name servers are copied to, so
// that the names are known by which the host looked up an address that it then
// connects to: AnswerRate a second, each cut off after AnswerSnap octets of its
// packet. What is forwarded is nobody's who is redirected.
const (
	AnswerGroup = 2553
	AnswerRate  = 1000
	AnswerBurst = 1000
	AnswerSnap  = 4096
)

// PrefixAnswer is that of their NFLOG packets.
const PrefixAnswer = "smtpwall dns "

const portDNS = 53

// Answering matches packets that connection tracking knows as answers to what
// went the other way. It never begins a connection, and no verdict depends on it.
type Answering struct{}

func (Answering) term() {}

func (Answering) String() string { return "ct direction reply" }

// notesAnswers says whether answers are copied: only where certificates are made
// for redirected connections, which have switched connection tracking on already.
func (o Options) notesAnswers() bool { return o.DNSAnswers && o.redirects() }

// noteAnswers makes the chain that answers come in by, from other hosts and from
// resolvers of this one, copy them. Whatever becomes of the copy, the packet goes
// on as it would without: there is no verdict.
func noteAnswers(o Options, chains []Chain) {
	if !o.notesAnswers() {
		return
	}
	at := slices.IndexFunc(chains, func(c Chain) bool { return c.Name == chainFilterIn })
	chains[at].Rules = append(chains[at].Rules, Rule{
		Is{Field: UDPSPort, Value: portDNS},
		Answering{},
		Limit{AnswerRate, AnswerBurst},
		Log{Prefix: PrefixAnswer, Group: AnswerGroup, Snap: AnswerSnap},
	})
}
