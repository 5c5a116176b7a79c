package peer

import (
	"os"
	"os/user"
	"path/filepath"
	"testing"

	"github.com/smtpwall/smtpwall/internal/config"
)

// TestPoliciesSayWhatIsCompared reads the policies as the program does.
func TestPoliciesSayWhatIsCompared(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	without, with := parsePolicy(t, free), parsePolicy(t, limited+breakersOn+rules(me.Username))
	if len(without.Limits)+len(without.Rules) > 0 || without.Breakers.Identical.Action != config.BreakerOff {
		t.Errorf("free: %+v", without)
	}
	budgets := with.Budgets
	if len(with.Limits) != 4 || len(budgets.Host) == 0 || len(budgets.User) == 0 || len(budgets.Account) == 0 || len(with.Ladder) != 3 {
		t.Errorf("limited: %+v", with)
	}
	for name, b := range map[string]config.Breaker{
		"refused": with.Breakers.Refused, "senders": with.Breakers.Senders, "identical": with.Breakers.Identical, "burst": with.Breakers.Burst,
	} {
		if b.Action == config.BreakerOff {
			t.Errorf("breaker %s is off", name)
		}
	}
	if last := with.Rules[len(with.Rules)-1]; len(with.Rules) != ruleCount || last.Match.User[0] != me.Username {
		t.Errorf("%d rules, the last %+v", len(with.Rules), last)
	}
	if senders := parsePolicy(t, limited+perSender+breakersOn).Budgets.Sender; len(senders) != 1 {
		t.Errorf("budgets of senders: %v", senders)
	}
}

func parsePolicy(t *testing.T, policy string) config.Policy {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	relay := "mode = \"observe\"\n[host]\nname = \"proxy.test\"\n[relay.main]\naddress = \"relay.test:465\"\ntls = \"implicit\"\n" +
		"username = \"u\"\npassword = { file = \"" + password + "\" }\n"
	cfg, problems := config.Parse("policy.toml", []byte(relay+policy), config.Options{})
	if cfg == nil {
		t.Fatal(problems)
	}
	return cfg.Policy
}
