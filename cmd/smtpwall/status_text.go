package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// printState is the state for people: the guard's, the proxy's, the spool's, and
// in the end what is not as it should be.
func (c *console) printState(s state) {
	now := time.Now()
	if s.guardErr == nil {
		c.printGuard(s.guard)
	} else {
		fmt.Fprintf(c.out, "guard: %s\n", visible(s.guardErr.Error()))
	}
	if s.proxyErr == nil {
		c.printProxy(s.proxy, now)
	} else {
		fmt.Fprintf(c.out, "proxy: %s\n", visible(s.proxyErr.Error()))
	}
	if line := certificatesLine(s.certificates, now); line != "" {
		fmt.Fprintf(c.out, "certificates: %s\n", line)
	}
	if s.spoolErr == nil {
		c.printSpool(s.spool, now)
	} else {
		fmt.Fprintf(c.out, "spool: %s\n", visible(s.spoolErr.Error()))
	}
	if held := s.spool.ByState[string(spool.Hold)]; held > 0 && s.relays == 0 {
		fmt.Fprintf(c.out, "no relay is configured: %s held until there is one\n", are(held))
	}
	c.printConditions(s)
}

func are(n int) string {
	if n == 1 {
		return "1 message is"
	}
	return fmt.Sprintf("%d messages are", n)
}

// printConditions names what degrades the host, each half's in the same order
// every time.
func (c *console) printConditions(s state) {
	for _, conditions := range []map[string]string{s.guard.Conditions, s.proxy.Conditions} {
		for _, line := range sortedConditions(conditions) {
			fmt.Fprintln(c.out, line)
		}
	}
	if _, told := s.proxy.Conditions["spool"]; s.spool.Corrupt > 0 && !told {
		fmt.Fprintf(c.out, "degraded: spool: %s damaged and put aside, in corrupt/\n", are(s.spool.Corrupt))
	}
}

func (c *console) printGuard(status guard.Status) {
	fmt.Fprintf(c.out, "mode %s, rules %s, lock table %s\n", status.Mode, inForce(status), status.Lock)
	if state := &status.ModeState; !state.Confirmed || state.Mode != state.Configured {
		fmt.Fprintf(c.out, "mode %s\n", modeLine(state))
	}
	fmt.Fprintf(c.out, "%d attempts recorded, %d packets counted, %d changes of the rules put back\n",
		status.Attempts, status.Packets, status.Drifts)
	for _, relay := range status.Relays {
		var addresses []string
		for _, address := range relay.Addresses {
			addresses = append(addresses, address.String())
		}
		fmt.Fprintf(c.out, "relay %s (%s): %s%s\n", relay.Name, relay.Host, strings.Join(addresses, ", "), visible(relay.Error))
	}
	for i := range status.Allow {
		c.printAllow(&status.Allow[i])
	}
}

// printAllow is one kind of direct connection that is left alone.
func (c *console) printAllow(entry *guard.AllowStatus) {
	text := fmt.Sprintf("allow %s: %s left alone", visible(allowText(entry)), counted(entry.Count, "connection"))
	if !entry.Until.IsZero() {
		text += ", until " + timeText(entry.Until)
	}
	if entry.Error != "" {
		text += ", but not now: " + visible(entry.Error)
	}
	fmt.Fprintln(c.out, text)
}

func allowText(entry *guard.AllowStatus) string { return entry.Who + " to " + entry.Destination }

func inForce(status guard.Status) string {
	switch {
	case status.Released:
		return "taken down on request"
	case status.InForce:
		return "in force"
	case status.Applied:
		return "changed by somebody"
	}
	return "absent"
}

func (c *console) printProxy(status admin.Status, now time.Time) {
	fmt.Fprintf(c.out, "proxy up since %s, %s ago, sessions: %d\n", timeText(status.Started), spanText(now.Sub(status.Started)), status.Sessions)
	if status.Suspended > 0 {
		fmt.Fprintf(c.out, "suspended: %d, whom smtpwall suspend lists\n", status.Suspended)
	}
	for i := range status.Relays {
		fmt.Fprintf(c.out, "relay %s\n", relayText(&status.Relays[i], now))
	}
}

func (c *console) printSpool(status admin.SpoolStatus, now time.Time) {
	text := countText(status.Messages)
	if states := statesText(status.ByState); states != "" {
		text += " (" + states + ")"
	}
	if status.MaxBytes > 0 {
		text += fmt.Sprintf(", %s of %s", sizeText(status.Bytes), sizeText(status.MaxBytes))
	}
	if !status.Oldest.IsZero() {
		oldest := ", the oldest came "
		if status.ByState[string(spool.Hold)] > 0 {
			oldest = ", the oldest that is not in hold came "
		}
		text += oldest + spanText(now.Sub(status.Oldest)) + " ago"
	}
	fmt.Fprintf(c.out, "spool: %s\n", text)
}

// statesText counts the messages in each state, the states always in one order.
func statesText(counts map[string]int) string {
	var parts []string
	for _, state := range []spool.State{spool.Incoming, spool.Active, spool.Deferred, spool.Hold} {
		if n := counts[string(state)]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return strings.Join(parts, ", ")
}
