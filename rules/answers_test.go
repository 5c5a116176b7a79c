package rules

import (
	"strings"
	"testing"
)

func TestAnswersAreNotedWhereConnectionsAreRedirected(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   int
	}{
		{"enforcing", func(*Options) {}, 1},
		{"off", func(o *Options) { o.DNSAnswers = false }, 0},
		{"observing", func(o *Options) { o.Mode = Observe }, 0},
		{"rejecting", func(o *Options) { o.SubmissionPorts = RejectSubmission }, 0},
		{"without listeners", func(o *Options) { o.Redirect = nil }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := goldenOptions()
			o.DNSAnswers = true
			c.change(&o)
			r, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(answerRules(r)); got != c.want {
				t.Errorf("%d rules, want %d", got, c.want)
			}
			if o.Mode != Enforce {
				return
			}
			lock, err := NewLock(o)
			if err != nil {
				t.Fatal(err)
			}
			if got := answerRules(lock); len(got) != 0 {
				t.Errorf("the lock notes them once more: %s", got)
			}
		})
	}
}

func answerRules(r Ruleset) []Rule {
	var found []Rule
	for _, c := range r.Chains {
		for _, rule := range c.Rules {
			if strings.Contains(rule.String(), "udp") {
				found = append(found, rule)
			}
		}
	}
	return found
}

// TestAnswersGoOnAsTheyWould: the rules copy and do nothing else, as the last of
// their chain, and ask connection tracking only about packets from port 53.
func TestAnswersGoOnAsTheyWould(t *testing.T) {
	r := goldens(t)["enforce-answers"]
	for _, rule := range answerRules(r) {
		for i, term := range rule {
			switch term.(type) {
			case Is, Limit, Log:
			case Answering:
				if i == 0 || rule[0].String() != "udp sport 53" {
					t.Errorf("tracking is asked about everything: %q", rule)
				}
			default:
				t.Errorf("%q does more than to copy: %q", term, rule)
			}
		}
	}
	c, _ := r.Chain(chainFilterIn)
	if last := c.Rules[len(c.Rules)-1].String(); !strings.Contains(last, "udp") {
		t.Errorf("the last rule of %s is %q", c.Name, last)
	}
	without := goldens(t)["enforce-redirect"]
	if got := Diff(r, without); len(got) != 1 {
		t.Errorf("there is more than one rule to it: %v", got)
	}
}
