package rules

import "fmt"

// Closing is the name of the object in each redirecting table that says for how
// long the kernel remembers a redirected connection after its end. Whatever
// place it went to, it looks the same from the listener, so as long as it is
// remembered nobody else's with that source port can be redirected. The usual
// two minutes are long enough for one user to use up all source ports.
const Closing = "closing"

// ClosingSeconds is that time, after a close or a reset.
const ClosingSeconds = 1

// SetTimeout lets a new connection end as Closing says.
type SetTimeout struct{}

func (SetTimeout) term() {}

func (SetTimeout) String() string { return fmt.Sprintf("ct timeout set %q", Closing) }

// renderClosing is the object as nft prints it. It is for both families.
func renderClosing() string {
	return fmt.Sprintf("\tct timeout %s {\n\t\tprotocol tcp\n\t\tl3proto ip\n\t\tpolicy = { time_wait : %d, close : %d }\n\t}\n",
		Closing, ClosingSeconds, ClosingSeconds)
}
