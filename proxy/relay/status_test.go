package relay

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// Status as monitoring reads it.
func TestStatusJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, func(o *Options) {
			withPorts(one587, one2525)(o)
			o.Rate = 2
		})
		pool.slots.random = func() float64 { return 0.5 }
		expectStatus(t, pool, `{"name":"main","breaker":"closed","open":0,"lent":0,"cap":4,"max":4,"pace_ns":500000000,"ports":[]}`)
		relay.fail(one587, refusedTCP)
		tx, err := pool.Begin(t.Context(), "uid:33", "", smtp.MailParams{})
		if err != nil {
			t.Fatal(err)
		}
		ports := `"ports":[{"port":587,"state":"blocked","error":"dial tcp: connect: connection refused","since":"2000-01-01T00:00:00Z"},` +
			`{"port":2525,"state":"works","since":"2000-01-01T00:00:00Z"}]}`
		expectStatus(t, pool, `{"name":"main","breaker":"closed","open":1,"lent":1,"cap":4,"max":4,"pace_ns":500000000,`+ports)
		tx.Abort()
		expectStatus(t, pool, `{"name":"main","breaker":"closed","open":1,"lent":0,"cap":4,"max":4,"pace_ns":500000000,`+ports)
	})
}

func TestStatusOfABreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		relay.fail(one587, refusedTCP)
		pool := relay.pool(t, withPorts(one587))
		pool.slots.random = func() float64 { return 0.5 }
		expectSteps(t, pool, StepConnect, StepConnect, StepConnect)
		expectStatus(t, pool, `{"name":"main","breaker":"open","retry_at":"2000-01-01T00:00:05Z",`+
			`"error":"connecting to the relay \"main\": dial tcp: connect: connection refused","open":0,"lent":0,"cap":4,"max":4,"pace_ns":0,`+
			`"ports":[{"port":587,"state":"blocked","error":"dial tcp: connect: connection refused","since":"2000-01-01T00:00:00Z"}]}`)
	})
}

func expectStatus(t *testing.T, pool *Pool, want string) {
	t.Helper()
	status := pool.Status(time.Now())
	if !status.RetryAt.IsZero() {
		status.RetryAt = status.RetryAt.UTC()
	}
	for i := range status.Ports {
		if !status.Ports[i].Since.IsZero() {
			status.Ports[i].Since = status.Ports[i].Since.UTC()
		}
	}
	if got, err := json.Marshal(status); err != nil || string(got) != want {
		t.Fatalf("%s, %v\nwant %s", got, err, want)
	}
}
