package peer

import (
	"context"
	"fmt"
	"os/user"
	"strings"
)

// free is a policy that says nothing about anybody, and watches nobody.
const free = `[policy]
limits = []
[policy.breakers]
refused = { action = "off" }
senders = { action = "off" }
identical = { action = "off" }
burst = { action = "off" }
`

// limited has limits that nobody reaches, on all that can be counted, in four
// budgets: of the identity, the host, the user and the account. There is no
// unit, since the clients may have none.
const limited = `[policy]
limits = ["100000000 messages/hour", "100000000 recipients/day", "100000000 new-recipients/day", "900TiB/day"]
ladder = ["slow at 80%", "defer at 100%", "suspend at 400%"]
[policy.budgets]
host = ["100000000 messages/hour", "100000000 recipients/day"]
user = ["100000000 messages/hour", "100000000 recipients/day"]
account = ["100000000 messages/hour", "100000000 recipients/day"]
`

// perSender ends limited with a budget for each reverse-path.
const perSender = "sender = [\"100000000 messages/hour\"]\n"

// breakersOn is all of them, as installed. One reports that the bodies are all
// alike; none raises.
const breakersOn = `[policy.breakers]
refused = { action = "raise", share = "50%", least = 20 }
senders = { action = "report", least = 20 }
identical = { action = "report", least = 200 }
burst = { action = "report", times = 10, least = 100 }
`

// ruleCount is how many rules there are, the one that decides being the last.
const ruleCount = 50

// rules are those of a host with a site for each user. The last one is for name.
func rules(name string) string {
	var b strings.Builder
	for i := range ruleCount {
		site := fmt.Sprintf("site%02d", i)
		match, domain := fmt.Sprintf("user = [%q, %q], unit = [\"php*-fpm.service\"]", site, site+"-*"), site+".example.com"
		if i == ruleCount-1 {
			match, domain = fmt.Sprintf("user = [%q]", name), "bench.test"
		}
		fmt.Fprintf(&b, "[[policy.rule]]\nname = %q\nmatch = { %s }\nsenders = [%q, %q]\n"+
			"recipients = [\"*@relay.test\", \"*@*.example.net\"]\ndecision = \"allow\"\n",
			site, match, "*@"+domain, "*@*."+domain)
	}
	return b.String()
}

// startSmtpwallFree has no limits, no breakers and no rules.
func startSmtpwallFree(ctx context.Context, env Environment) (*Running, error) {
	return serve(ctx, env, setup{connections: usual, policy: free})
}

// startSmtpwallLimits has all of them.
func startSmtpwallLimits(ctx context.Context, env Environment) (*Running, error) {
	return startLimited(ctx, env, limited)
}

// startSmtpwallSenders counts each reverse-path too. The load generator uses no
// reverse-path twice, so each message makes a budget: what a newsletter with a
// return path for each reader does.
func startSmtpwallSenders(ctx context.Context, env Environment) (*Running, error) {
	return startLimited(ctx, env, limited+perSender)
}

func startLimited(ctx context.Context, env Environment, limits string) (*Running, error) {
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("whose rule decides: %w", err)
	}
	return serve(ctx, env, setup{connections: usual, policy: limits + breakersOn + rules(me.Username)})
}
