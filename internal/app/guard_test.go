package app

import (
	"testing"

	"github.com/smtpwall/smtpwall/internal/config"
)

func TestRulesNoteAnswersUnlessToldNotTo(t *testing.T) {
	cfg := config.Default()
	if !RuleOptions(cfg, Owner{990, 990}).DNSAnswers {
		t.Error("answers are not noted by default")
	}
	cfg.Firewall.DNSAnswers = config.DNSAnswersIgnore
	if RuleOptions(cfg, Owner{990, 990}).DNSAnswers {
		t.Error("answers are noted that are to be ignored")
	}
}
