package fault_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/durable"
)

// The child is this test binary, run again with its configuration in the
// environment. It obeys orders, one a line of JSON on its standard input, and
// answers each with a line on its standard output; the program log goes to its
// standard error. It ends when its input does.
const (
	childVariable = "SMTPWALL_FAULT_CHILD" // path of the configuration
	planVariable  = "SMTPWALL_FAULT_PLAN"  // the plan of its start, JSON
)

// order is what a child is asked to do.
type order struct {
	Arm   *plan `json:",omitempty"`
	Stop  bool  `json:",omitempty"` // in good order
	Count bool  `json:",omitempty"`
}

// answer is what it says then, and once at its start.
type answer struct {
	Error string `json:",omitempty"`
	Count count
}

// stopTime bounds the end of a child in good order.
const stopTime = 10 * time.Second

// runChild is the real proxy, without a guard, on a disk that fails as planned.
func runChild(path string) int {
	d := &disk{FS: durable.OS{}}
	answers := json.NewEncoder(os.Stdout)
	p, err := startProxy(path, d)
	if err != nil {
		_ = answers.Encode(answer{Error: err.Error()})
		return 1
	}
	_ = answers.Encode(answer{Count: d.count()})
	orders := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var o order
		if orders.Decode(&o) != nil {
			return 1 // nobody is there to care
		}
		switch {
		case o.Arm != nil:
			d.arm(*o.Arm)
		case o.Stop:
			ctx, cancel := context.WithTimeout(context.Background(), stopTime)
			defer cancel()
			if err := p.Stop(ctx); err != nil {
				_ = answers.Encode(answer{Error: err.Error()})
				return 1
			}
			_ = answers.Encode(answer{})
			return 0
		}
		_ = answers.Encode(answer{Count: d.count()})
	}
}

func startProxy(path string, d *disk) (*app.Proxy, error) {
	var p plan
	if text := os.Getenv(planVariable); text != "" {
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return nil, err
		}
	}
	d.arm(p)
	cfg, problems := config.Load(path, config.Options{})
	if cfg == nil {
		return nil, fmt.Errorf("configuration: %v", problems)
	}
	log, level := app.NewLogger(cfg.Log.Level)
	return app.StartProxy(context.Background(), app.ProxyOptions{
		Config: cfg, Guard: path + ".no-guard", Log: log, LogLevel: level, FS: d,
	})
}
