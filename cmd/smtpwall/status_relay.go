package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/proxy/relay"
)

// relayText is how a relay does, in one line.
func relayText(status *relay.Status, now time.Time) string {
	parts := []string{breakerText(status, now)}
	if status.Open > 0 {
		parts = append(parts, fmt.Sprintf("%d connections open, %d in use", status.Open, status.Lent))
	}
	if status.Cap < status.Max {
		parts = append(parts, fmt.Sprintf("at most %d connections for now instead of %d, as the relay wants", status.Cap, status.Max))
	}
	if status.Pace > 0 {
		parts = append(parts, fmt.Sprintf("one message each %v", status.Pace.Round(time.Millisecond)))
	}
	if status.Slowed > 0 {
		parts = append(parts, fmt.Sprintf("slow with %d senders whose messages it puts off", status.Slowed))
	}
	if ports := portsText(status.Ports); ports != "" {
		parts = append(parts, ports)
	}
	return visible(status.Name) + ": " + strings.Join(parts, "; ")
}

func breakerText(status *relay.Status, now time.Time) string {
	switch status.Breaker {
	case relay.BreakerOpen:
		wait := status.RetryAt.Sub(now)
		if wait <= 0 {
			return "left alone after failures, tried with the next message: " + visible(status.Error)
		}
		return fmt.Sprintf("left alone after failures, tried again in %s: %s", spanText(wait), visible(status.Error))
	case relay.BreakerHalfOpen:
		return "being tried again: " + visible(status.Error)
	}
	if status.Error != "" {
		return "failed last: " + visible(status.Error)
	}
	return "ready"
}

// portsText says which ports work from this network, which a provider may block
// one by one.
func portsText(ports []relay.PortStatus) string {
	var parts []string
	for _, port := range ports {
		text := fmt.Sprint(port.Port)
		switch port.State {
		case relay.PortWorks:
			text += " works"
		case relay.PortBlocked:
			text += " blocked by this network"
		case relay.PortFailed:
			text += " failed"
		default:
			text += " not tried yet"
		}
		// A single failure is told beside the breaker already.
		if port.Error != "" && len(ports) > 1 {
			text += " (" + visible(port.Error) + ")"
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return ""
	}
	return "port " + strings.Join(parts, ", ")
}
